"""Video files of every kind, made on the spot: each recipe is a name and what ffmpeg is told.

Pictures move and differ (a test pattern with noise), so that a frame that is missing, doubled or
swapped is seen in its pixels. They are small, and their key frames lie close, so that a file of
some seconds has several segments.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.workers.cameras import require_ffmpeg


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg; skip where this build of it lacks what the recipe needs."""
    require_ffmpeg()
    command = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "Unknown encoder" in done.stderr:
        pytest.skip(f"this ffmpeg lacks an encoder: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def pattern(
    path: Path,
    *options: str,
    size: str = "160x120",
    rate: str = "25",
    seconds: float = 8,
    filters: str = "noise=alls=12:allf=t",
    sound: bool = False,
) -> Path:
    """Write a moving pattern with these options of ffmpeg's encoder and container."""
    picture = f"testsrc2=size={size}:rate={rate}:duration={seconds}"
    tone = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"] if sound else []
    inputs = ["-f", "lavfi", "-i", picture, *tone, "-filter:v", filters]
    ffmpeg(*inputs, "-threads", "1", *options, path)
    return path


H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
OPEN_GOP = (*H264, "-bf", "3", "-g", "25", "-x264-params", "open-gop=1:b-pyramid=normal:scenecut=0")
BLURAY = (*H264, "-bf", "3", "-g", "25", "-x264-params", "open-gop=1:bluray-compat=1:slices=4")
NO_REORDER = (*H264, "-bf", "0", "-g", "25")
REFRESH = (*H264, "-x264-params", "intra-refresh=1:keyint=50")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
HEVC_OPEN = (*HEVC, "-x265-params", "log-level=none:keyint=25:open-gop=1:bframes=3:scenecut=0")
VP8 = ("-c:v", "libvpx", "-b:v", "300k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "50")
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "300k", "-auto-alt-ref", "1", "-lag-in-frames", "16")
VP9_FAST = (*VP9, "-deadline", "realtime", "-cpu-used", "8", "-g", "50")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-g", "50", "-pix_fmt", "yuv420p")
MPEG4 = ("-c:v", "mpeg4", "-g", "25", "-bf", "2")
MPEG2 = ("-c:v", "mpeg2video", "-g", "25", "-bf", "2")
MJPEG = ("-c:v", "mjpeg", "-q:v", "6", "-pix_fmt", "yuvj420p")

# Name of the file: what ffmpeg is told.
RECIPES: dict[str, tuple[str, ...]] = {
    "h264.mp4": (*H264, "-bf", "3", "-g", "25"),
    "h264-fragments.mp4": (*H264, "-g", "25", "-movflags", "frag_keyframe+empty_moov"),
    "h264.mov": (*H264, "-bf", "3", "-g", "25"),
    "h264.mkv": (*H264, "-bf", "3", "-g", "25"),
    "h264.flv": (*H264, "-bf", "3", "-g", "25"),
    "h264.ts": (*H264, "-bf", "3", "-g", "25"),
    "h264.avi": (*H264, "-bf", "3", "-g", "25"),
    "h264-no-reorder.avi": NO_REORDER,
    "h264.h264": (*H264, "-bf", "3", "-g", "25"),
    "open-gop.mp4": OPEN_GOP,
    "open-gop.mkv": OPEN_GOP,
    "open-gop.ts": OPEN_GOP,
    "bluray.ts": BLURAY,
    "bluray.mkv": BLURAY,
    "refresh.ts": REFRESH,
    "refresh.mp4": REFRESH,
    "hevc.mp4": (*HEVC, "-x265-params", "log-level=none:keyint=25"),
    "hevc-open-gop.mp4": HEVC_OPEN,
    "hevc-open-gop.mkv": HEVC_OPEN,
    "hevc-open-gop.ts": HEVC_OPEN,
    "vp8.webm": VP8,
    "vp9.webm": VP9_FAST,
    "vp9.mp4": VP9_FAST,
    "av1.mp4": AV1,
    "av1.webm": AV1,
    "mpeg4.mp4": MPEG4,
    "mpeg4.avi": MPEG4,
    "mpeg4.mkv": MPEG4,
    "mpeg2.ts": MPEG2,
    "mpeg2.mpg": MPEG2,
    "mjpeg.avi": MJPEG,
    "mjpeg.mov": MJPEG,
    "wmv2.wmv": ("-c:v", "wmv2", "-g", "25"),
    "sorenson.flv": ("-c:v", "flv", "-g", "25"),
    "theora.ogv": ("-c:v", "libtheora", "-g", "25"),
    "ffv1.mkv": ("-c:v", "ffv1", "-g", "1"),
    "prores.mov": ("-c:v", "prores_ks", "-profile:v", "0"),
    "one-key-frame.mp4": (*H264, "-g", "9999", "-x264-params", "scenecut=0"),
    "one-frame.mp4": (*H264, "-frames:v", "1"),
    "two-frames.webm": ("-c:v", "libvpx", "-frames:v", "2"),
    "10-bit.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p10le", "-g", "50"),
    "10-bit-hevc.mkv": (*HEVC_OPEN, "-pix_fmt", "yuv420p10le"),
    "4-4-4.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv444p", "-g", "50"),
    "gray.mp4": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "gray", "-g", "50"),
    "fields.mp4": (*H264, "-flags", "+ildct+ilme", "-x264-params", "tff=1:keyint=25"),
    "fields.ts": (*H264, "-flags", "+ildct+ilme", "-x264-params", "tff=1:keyint=25"),
    "fields-mpeg2.ts": (*MPEG2, "-flags", "+ildct+ilme"),
    "late-start.mkv": (*H264, "-g", "25", "-output_ts_offset", "100.5"),
    "late-start.ts": (*H264, "-g", "25", "-output_ts_offset", "5000"),
    "late-start.mp4": (*H264, "-g", "25", "-output_ts_offset", "3.2"),
    "live.webm": (*VP8, "-live", "1", "-f", "webm"),
}

ODD = "noise=alls=12:allf=t,scale=321:241"
UNEVEN = "noise=alls=12:allf=t,select='not(mod(n\\,7))+gt(random(1)\\,0.4)'"
