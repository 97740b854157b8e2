"""The observatory's stage 1 on one file; for the Python of the peer's virtual environment only.

    python peer.py UNCAL OUTPUT

Prints a line of JSON: seconds for the import, and for the run without it.
"""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")
begin = time.perf_counter()
from jwst.pipeline import Detector1Pipeline  # noqa: E402

imported = time.perf_counter()
Detector1Pipeline.call(sys.argv[1], output_dir=sys.argv[2], save_results=True)
done = time.perf_counter()
print(json.dumps({"import_s": imported - begin, "run_s": done - imported}))
