"""A trained generator in the formats of other tools."""
