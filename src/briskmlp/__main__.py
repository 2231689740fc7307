"""``python -m briskmlp`` is ``briskmlp``."""

import sys

from briskmlp.cli import main

if __name__ == "__main__":
    sys.exit(main())
