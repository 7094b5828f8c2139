"""Our meta-gradient engine beside learn2learn, torchopt and higher: all cells, and the parts of our engine one by one.

    LEARN2LEARN_SRC=... python benchmarks/engines.py
    LEARN2LEARN_SRC=... python benchmarks/engines.py --only 'reptile .* 32-task' --json /tmp/try.json

``metavox bench engines --ablation`` with the file of the committed figures; it takes the same options. Allow half an
hour of one core. Figures are kept cell by cell.
"""

import sys
from pathlib import Path

from metavox.cli import main

if __name__ == "__main__":
    where = str(Path(__file__).with_suffix(".json"))
    sys.argv = ["metavox", "bench", "engines", "--ablation", "--json", where, *sys.argv[1:]]
    main()
