"""`python -m mmrec_teach …` is `mmrec-teach …`; `torchrun --nproc-per-node 2 -m mmrec_teach …` starts it twice."""

import sys

from mmrec_teach.cli import main

if __name__ == "__main__":
    sys.exit(main())
