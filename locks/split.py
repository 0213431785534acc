"""Split one resolved lock (standard input) into the lock files of this folder.

torch and the accelerator libraries that its Linux wheel depends on go to torch.lock, so that a machine which can get
torch's CPU build installs that one instead and saves some 3 GB. Everything else goes to the file named as argument.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
ACCELERATOR = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")


def main() -> None:
    """Read requirement blocks (a line with its indented hash lines) and deal them out."""
    blocks = re.findall(r"^\S.*\n(?:[ \t].*\n)*", sys.stdin.read(), flags=re.MULTILINE)
    torch = [block for block in blocks if ACCELERATOR.match(block)]
    rest = [block for block in blocks if not ACCELERATOR.match(block)]
    (HERE / "torch.lock").write_text("".join(torch))
    (HERE / sys.argv[1]).write_text("".join(rest))


if __name__ == "__main__":
    main()
