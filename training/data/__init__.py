"""Images: files, labels, the built-in and published sets, conversion."""
