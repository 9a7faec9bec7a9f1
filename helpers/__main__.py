"""``python -m helpers``: the command line ``explain``."""

import sys

from .cli import main

sys.exit(main())
