"""Long clips out of short ones: the same pictures again and again, without encoding anew."""

from __future__ import annotations

from pathlib import Path

import av


def looped(source: Path, target: Path, times: int) -> Path:
    """Write the video of `source` so many times over, one after the other; no sound."""
    with av.open(str(target), "w") as out:
        shift = 0
        stream = None
        for _ in range(times):
            with av.open(str(source)) as clip:
                video = clip.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                end = 0
                for packet in clip.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 1))
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    out.mux(packet)
                shift += end
    return target
