"""Tools for trained networks. The commands' options are in arguments.py."""
