"""What one does with a trained network; the commands' options are in arguments.py."""
