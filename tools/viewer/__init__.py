"""A trained generator in the browser: the page, its server, and the samples that it requests."""
