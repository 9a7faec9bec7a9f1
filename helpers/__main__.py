"""``python -m helpers``: the command line ``explain``."""

import sys

from .interactive.cli import main

sys.exit(main())
