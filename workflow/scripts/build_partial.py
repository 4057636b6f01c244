"""The second call of Snakemake, see workflow/rules/partial.smk: the same arguments, for other targets and no others.

Reads {arguments, targets, partial} as JSON from its standard input: what is lost may be longer than a command line.
"""

import json
import sys

from snakemake.cli import args_to_api, parse_args

order = json.load(sys.stdin)
parser, args = parse_args(order["arguments"])
args.targets = order["targets"]
args.config = [*(args.config or []), f"partial={json.dumps(order['partial'])}"]
args.nolock = True  # the first call, which waits for this one, holds the lock
args.force = args.forceall = False  # what has been done over is not done over again
args.forcerun = set()
sys.exit(0 if args_to_api(args, parser) else 1)
