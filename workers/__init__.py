"""Everything that touches pixels: capture, detection, tracking, classification, live and video.

A frame's way: `sources` and `capture` put it on the bus, RQ calls `tasks`, `live` claims it,
`pipeline` looks at it with `vision` and `tracking`, and `live` publishes what was seen.
"""
