"""What two processes must agree on: records, Redis, jobs, settings, sources, errors.

Imports no numpy, OpenCV, Flask or TensorFlow, so that every process can afford it.
"""

from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent
