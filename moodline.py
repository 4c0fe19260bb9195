"""The command line: start everything, or one part, and look after feeds.

Errors that a user can meet are one line on stderr with the remedy: exit code 1, or 2 for misuse.
Each command imports what it needs: settings take an eighth of a second, Redis and RQ a quarter.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Self

import click

from shared.errors import BusError, ConfigError, InvalidRecord, MoodlineError, NotFound
from shared.source import Source
from shared.video import MAX_SAMPLED_FPS, VideoOptions

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from shared.bus import Bus
    from shared.config import Settings

_STOP_GRACE_S = 4.0
_READY_TIMEOUT_S = 30.0
_FILE = click.Path(dir_okay=False, path_type=Path)


class _Cli(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MoodlineError as error:
            click.echo(f"moodline: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="moodline")
def main() -> None:
    """Watch faces in video and see how their expressions change over time."""


@main.command()
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="S",
    help="Webcam number, rtsp:// or http:// address, video file, folder of images, or 'demo'. "
    "Can be given several times. Without: the feeds of last time, else webcam 0, else the demo.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes.")
@click.option("--host", help="Address to listen on; beyond this machine only with a password.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for what must outlive a restart.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
def up(
    sources: tuple[str, ...],
    workers: int | None,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    no_browser: bool,
) -> None:
    """Start Redis, capture, workers and the dashboard, and keep them running."""
    from shared import config, log

    options = {"WORKERS": workers, "HOST": host, "PORT": port, "DATA_DIR": data_dir}
    for name, value in options.items():
        if value is not None:
            os.environ[f"MOODLINE_{name}"] = str(value)
    settings = config.load()
    log.configure(settings.log_level, "up")
    settings.require_safe_web()
    wanted = [Source.parse(text) for text in sources]
    _require_model(settings)
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / "up.lock").touch()
    except OSError as error:
        raise ConfigError(
            f"The data folder {settings.data_dir} cannot be written ({error.strerror}): "
            "give another --data-dir."
        ) from error
    with _only_one(settings):
        _require_free_port(settings)
        _run_all(settings, wanted, open_browser=not no_browser)


def _run_all(settings: Settings, wanted: Sequence[Source], *, open_browser: bool) -> None:
    from shared import redis_server
    from workers.supervisor import Supervisor

    stop_signals: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stop_signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    own_redis = settings.redis_url is None
    url = _redis_url(settings)
    added: list[str] = []
    supervisor = Supervisor({**os.environ, "REDIS_URL": url, "PYTHONUNBUFFERED": "1"})
    try:
        if own_redis:
            _end_leftover_redis(url)
            supervisor.add("redis", redis_server.command(settings.data_dir))
            redis_server.wait_until_up(url)
        else:
            _require_redis(url)
        added += _register(settings, url, wanted)
        workers = (f"worker {i + 1}" for i in range(settings.workers))
        for role in ("capture", "events", "web", *workers):
            supervisor.add(role, _part(role.split()[0]))
        address = f"http://{_reachable_host(settings.host)}:{settings.port}"
        click.echo("Moodline is starting …")
        ready = _wait_until_ready(supervisor, address, lambda: bool(stop_signals))
        if ready:
            click.echo(f"Moodline is at {address} (Ctrl-C ends it)")
            if open_browser:
                _open_browser(address)
        supervisor.run(lambda: bool(stop_signals))
    finally:
        if not own_redis:  # which goes on without this run, whose feeds end with it
            _unregister(url, added)
        supervisor.stop(_STOP_GRACE_S, last=["redis"])
        if own_redis:
            redis_server.socket_path(settings.data_dir).unlink(missing_ok=True)
    click.echo("Moodline has ended.")


def _part(role: str) -> list[str]:
    """The command line of a child: it names its role, and nothing secret."""
    return [sys.executable, "-m", "moodline", role]


def _redis_url(settings: Settings) -> str:
    from shared import redis_server

    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return redis_server.url(settings.data_dir)


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the data folder for this run; ConfigError where another run holds it."""
    path = settings.data_dir / "up.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"Moodline already runs here{_other_run(file)}: "
                "stop it with Ctrl-C where it was started, or give another --data-dir and --port."
            ) from error
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": settings.host, "port": settings.port}, file)
        file.flush()
        yield
        file.truncate(0)


def _other_run(file: IO[str]) -> str:
    file.seek(0)
    try:
        other = json.load(file)
        return f" (process {other['pid']}, http://{other['host']}:{other['port']})"
    except (ValueError, KeyError):
        return ""


def _require_model(settings: Settings) -> None:
    """Say before anything starts that the model is missing or damaged."""
    from workers.vision.classifier import read_card, require_intact

    require_intact(settings.model, read_card(settings.model).files)


def _require_free_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"The dashboard cannot listen on {settings.host}:{settings.port} ({error}): "
                "end the program that does, or give another --port or --host."
            ) from error


def _require_redis(url: str) -> None:
    from shared.bus import Bus

    bus = Bus(url)
    try:
        bus.ping()
    finally:
        bus.close()


def _end_leftover_redis(url: str) -> None:
    """End the server of an earlier run that was killed: nobody else uses this data folder."""
    import redis

    from shared.connection import connect

    client = connect(url)
    with contextlib.suppress(redis.RedisError):
        client.shutdown(nosave=True)
    client.close()


def _register(settings: Settings, url: str, wanted: Sequence[Source]) -> list[str]:
    """Restore the feeds of last time and add those of this command line; return their ids."""
    from shared.bus import Bus
    from shared.schema import Feed
    from workers.capture import FeedsFile

    bus = Bus(url)
    try:
        bus.restore_feeds(FeedsFile.of(settings).load(drop_transient=True))
        known = {feed.source.text for feed in bus.feeds()}
        if not wanted and not known:
            wanted = [Source.parse("0" if _has_webcam() else "demo")]
        added = [
            Feed.new(source, fps=settings.fps, width=settings.width, transient=True)
            for source in wanted
            if source.text not in known
        ]
        for feed in added:
            bus.put_feed(feed)
        return [feed.id for feed in added]
    finally:
        bus.close()


def _unregister(url: str, feed_ids: Sequence[str]) -> None:
    from shared.bus import Bus

    bus = Bus(url)
    for feed_id in feed_ids:
        with contextlib.suppress(BusError, NotFound):
            if bus.feed(feed_id).transient:  # else somebody has changed it, and it is kept
                bus.remove_feed(feed_id)
    bus.close()


def _has_webcam() -> bool:
    if sys.platform.startswith("linux"):
        return Path("/dev/video0").exists()
    import cv2

    camera = cv2.VideoCapture(0)
    try:
        return bool(camera.isOpened())
    finally:
        camera.release()


def _reachable_host(host: str) -> str:
    """The name under which a browser on this machine reaches what listens on `host`."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _wait_until_ready(supervisor: Any, address: str, stopping: Any) -> bool:
    """Supervise until the page answers; False if stopped before."""
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not stopping():
        supervisor.turn()
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"{address}/healthz", timeout=1) as answer,  # noqa: S310
        ):
            if answer.status == 200:
                return True
        if time.monotonic() > deadline:
            raise ConfigError(
                f"The dashboard did not answer at {address} within {_READY_TIMEOUT_S:g} s: "
                "run `moodline web` to see why."
            )
        time.sleep(0.1)
    return False


def _open_browser(address: str) -> None:
    """Open the page where there is a screen to show it on."""
    import webbrowser

    on_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if on_screen or sys.platform in ("darwin", "win32"):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)


def _part_settings(role: str) -> tuple[Settings, str]:
    """Settings and Redis address of one part; says so where nothing runs that it could join."""
    from shared import config, log, redis_server

    settings = config.load()
    log.configure(settings.log_level, role)
    url = _redis_url(settings)
    if settings.redis_url is None and not redis_server.socket_path(settings.data_dir).exists():
        raise BusError(
            "Moodline does not run here: start it with `moodline up`, "
            "or set REDIS_URL to the Redis that its parts share."
        )
    return settings, url


@main.command()
def capture() -> None:
    """Run the capture processes of all feeds."""
    from workers import capture as part

    part.run(*_part_settings("capture"))


@main.command("capture-feed", hidden=True)
@click.argument("feed_id")
def capture_feed(feed_id: str) -> None:
    """Capture one feed (started by `capture`)."""
    from workers import capture_feed as part

    part.run_feed(*_part_settings("capture"), feed_id)


@main.command()
def events() -> None:
    """Look for events by the rules, and bring them to their targets."""
    from workers import events as part

    part.run(*_part_settings("events"))


@main.command("first-picture", hidden=True)
def first_picture() -> None:
    """Try the one source that standard input names (started by `capture`)."""
    from workers import first_picture as part

    part.run(*_part_settings("capture"))


@main.command("record-feed", hidden=True)
@click.argument("recording_id")
def record_feed(recording_id: str) -> None:
    """Record one feed (started by `capture`)."""
    from workers import recorder as part

    part.record(*_part_settings("capture"), recording_id)


def _all_queues() -> str:
    from shared.jobs import QUEUES

    return ",".join(QUEUES)


@main.command()
@click.option("--count", type=click.IntRange(1, 256), default=1, help="Worker processes.")
@click.option("--queues", default=_all_queues, help="Queues to serve, most urgent first.")
def worker(count: int, queues: str) -> None:
    """Run workers that analyse frames."""
    from shared.jobs import QUEUES

    names = tuple(name.strip() for name in queues.split(",") if name.strip())
    unknown = [name for name in names if name not in QUEUES]
    if unknown or not names:
        raise click.BadParameter(f"queues are {', '.join(QUEUES)}", param_hint="--queues")
    settings, url = _part_settings("worker")
    if count == 1:
        from workers import worker as part

        part.run(settings, url, names)
        return
    from workers.supervisor import Supervisor

    _require_model(settings)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stopped.append(number))
    supervisor = Supervisor({**os.environ, "REDIS_URL": url})
    try:
        for i in range(count):
            supervisor.add(f"worker {i + 1}", [*_part("worker"), "--queues", ",".join(names)])
        supervisor.run(lambda: bool(stopped))
    finally:
        supervisor.stop(_STOP_GRACE_S)


@main.command()
@click.option("--host", help="Address to listen on; beyond this machine only with a password.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
def web(host: str | None, port: int | None) -> None:
    """Run the dashboard and its API."""
    from web.server import serve

    for name, value in {"HOST": host, "PORT": port}.items():
        if value is not None:
            os.environ[f"MOODLINE_{name}"] = str(value)
    serve(*_part_settings("web"))


@main.command()
@click.argument("role", type=click.Choice(["capture", "worker", "web", "events"]))
def health(role: str) -> None:
    """Exit with 0 if that part is well on this machine (for container health checks)."""
    if role == "web":
        import urllib.request

        from shared import config

        settings = config.load()
        address = f"http://{_reachable_host(settings.host)}:{settings.port}/healthz"
        try:
            with urllib.request.urlopen(address, timeout=3):
                return
        except OSError as error:
            raise BusError(f"The dashboard does not answer at {address} ({error}).") from error
    with _bus() as bus:
        bus.ping()
        here = socket.gethostname()
        if role == "worker" and not any(w.name.startswith(f"{here}-") for w in bus.workers()):
            raise BusError(f"No worker on {here} has reported lately: see its log.")
    if role == "events":
        _require_events_leader()


def _require_events_leader() -> None:
    """Raise BusError unless some process looks for events: one that leads, here or elsewhere."""
    from shared import config
    from shared.event_bus import EventBus

    settings = config.load()
    bus = EventBus(_redis_url(settings))
    try:
        if not bus.led()[0]:
            raise BusError("No process looks for events: see the log of `moodline events`.")
    finally:
        bus.close()


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each picture with boxes and labels into this folder, those of one name numbered.",
)
def image(files: tuple[Path, ...], as_json: bool, out: Path | None) -> None:
    """Judge the faces in still pictures."""
    from shared import config
    from workers import stills
    from workers.pipeline import load_pipeline

    pipeline = load_pipeline(config.load(), search_width=stills.SEARCH_WIDTH)
    rows, failed = [], False
    written: Counter[str] = Counter()  # pictures of one name lie in different folders
    for path in files:
        try:
            picture = stills.read_picture(path)
            faces = stills.find_faces(pipeline, picture)
            if out is not None:
                written[path.stem] += 1
                number = f"-{written[path.stem]}" if written[path.stem] > 1 else ""
                stills.save_labelled(picture, faces, out / f"{path.stem}-labelled{number}.jpg")
        except MoodlineError as error:  # the other files still get their turn
            click.echo(f"moodline: {error}", err=True)
            failed = True
            continue
        rows.append(
            {
                "file": str(path),
                "width": picture.width,
                "height": picture.height,
                "faces": [face.to_dict() for face in faces],
            }
        )
        if not as_json:
            click.echo(f"{path}: {len(faces) or 'no'} face{'' if len(faces) == 1 else 's'}")
            for face in faces:
                judged = f"{face.emotion} {face.confidence:.0%}"
                click.echo(f"  {face.track}  {f'unsure ({judged}?)' if face.unsure else judged}")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    if failed:
        sys.exit(1)


@main.command()
@click.argument("video", type=_FILE)
@click.option("--json", "json_path", type=_FILE, help="Write every face of every frame here.")
@click.option("--csv", "csv_path", type=_FILE, help="Write the same here, as a table.")
@click.option("--annotated", "mp4_path", type=_FILE, help="Write a labelled copy here (MP4).")
@click.option("--blur", is_flag=True, help="Blur all faces in the labelled copy.")
@click.option("--pdf", "pdf_path", type=_FILE, help="Write a page that sums up everybody here.")
@click.option(
    "--fps",
    type=click.FloatRange(0, MAX_SAMPLED_FPS, min_open=True),
    help="Frames per second to analyse; all by default.",
)
@click.option("--start", "start_s", type=click.FloatRange(0), default=0.0, help="Start, seconds.")
@click.option("--end", "end_s", type=click.FloatRange(0), help="End, in seconds.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes; one a core by default.")
def analyze(
    video: Path,
    json_path: Path | None,
    csv_path: Path | None,
    mp4_path: Path | None,
    blur: bool,
    pdf_path: Path | None,
    fps: float | None,
    start_s: float,
    end_s: float | None,
    workers: int | None,
) -> None:
    """Analyse one video file, without a server.

    Without a file to write, it prints who is in the video and how they look.
    """
    from shared.video import ReportExtra, report_path
    from workers import analysis, forks

    def settings() -> Settings:
        from shared import config

        return config.load()

    if blur and mp4_path is None:
        raise click.UsageError("--blur is for the labelled copy: give --annotated too.")
    if end_s is not None and end_s <= start_s:
        raise click.BadParameter(f"must be after the start at {start_s:g} s", param_hint="--end")
    try:
        options = VideoOptions(fps, start_s, end_s)
    except InvalidRecord as error:  # the ranges above let "nan" through, and "inf"
        raise click.UsageError(f"{error}: give a number.") from error
    outputs = [path for path in (json_path, csv_path, mp4_path, pdf_path) if path is not None]
    places = [path.resolve() for path in (video, *outputs)]
    for output, place in zip(outputs, places[1:], strict=True):
        if places.count(place) > 1 and (output.is_file() or not output.exists()):
            raise click.UsageError(f"{output} would be written over: give each file its own name.")
    analysis.require_writable(outputs)
    needed = {ReportExtra.TABLE: csv_path, ReportExtra.FACES: pdf_path}
    extras = [extra for extra, path in needed.items() if path is not None]
    # Ended from outside as by Ctrl-C: all that was begun is put away.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        with _Bar("Analysing", "frames") as bar:
            media, record = stack.enter_context(
                analysis.analysed(
                    video, options, settings, workers=workers, extras=extras, progress=bar.show
                )
            )
        for name, path in {"results.json": json_path, "results.csv": csv_path}.items():
            if path is not None:
                analysis.save(media, report_path(record.id, name), path)
        if mp4_path is not None:
            from workers.annotate import annotate

            with (
                _Bar("Drawing", "frames") as bar,
                analysis.written(mp4_path) as file,
                forks.signals_kept_back() as let_in,
            ):

                def between(done: int, total: int) -> None:
                    bar.show(done, total)
                    let_in()

                annotate(media, record, file, blur=blur, between=between)
        if pdf_path is not None:
            from workers.summary import summary_pdf

            with analysis.written(pdf_path) as file:
                summary_pdf(media, record, file)
        summary = json.loads(media.read(report_path(record.id, "summary.json")))
    _print_notes(summary["video"])
    if not outputs:
        _print_people(summary)
    gc.freeze()  # Python would look through all that was loaded before it ends: a tenth of a second


class _Bar:
    """A progress bar on stderr where that is a terminal, for the length of a ``with`` block."""

    def __init__(self, text: str, unit: str) -> None:
        self._text = text
        self._unit = unit
        self._shown: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown[0].stop()

    def show(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._shown is None:
            self._shown = self._begun()
        progress, task = self._shown
        progress.update(task, completed=done, total=total)

    def _begun(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} " + self._unit),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = progress.add_task(self._text)
        progress.start()
        return progress, task


def _print_notes(video: Mapping[str, Any]) -> None:
    """Say on stderr what a report lacks."""
    if video["ended_early"]:
        click.echo(f"moodline: {video['ended_early']}", err=True)
    if video["frames_missing"]:
        click.echo(f"moodline: {video['frames_missing']} frames could not be decoded.", err=True)


def _print_people(summary: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    video, people = summary["video"], summary["people"]
    found = f"{len(people) or 'no'} {'person' if len(people) == 1 else 'people'}"
    click.echo(f"{video['name']}: {video['frames_analysed']} frames, {found}")
    table = Table(box=None, pad_edge=False)
    for column in ("person", "from", "to", "seen", "expressions"):
        table.add_column(column)
    for person in people:
        shares = sorted(person["shares"].items(), key=lambda share: -share[1])
        shown = [f"{label} {share:.0%}" for label, share in shares if share >= 0.05]
        table.add_row(
            str(person["id"]),
            f"{person['start_s']:.1f} s",
            f"{person['end_s']:.1f} s",
            f"{person['seconds_seen']:.1f} s",
            ", ".join(shown),
        )
    if people:
        Console(width=None if sys.stdout.isatty() else 200).print(table)


@main.group()
def feeds() -> None:
    """List, add, rename, switch on and off, and remove feeds."""


@feeds.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def feeds_list(as_json: bool) -> None:
    """List all feeds and how they are doing."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    with _bus() as bus:
        found = bus.feeds()
        statuses = bus.statuses([feed.id for feed in found])
    rows: list[Mapping[str, Any]] = [
        {
            "id": feed.id,
            "name": feed.name,
            "source": feed.source.masked,
            "status": statuses[feed.id].state.value,
            "fps_in": round(statuses[feed.id].fps_in, 1),
            "fps_analysed": round(statuses[feed.id].fps_analysed, 1),
            "dropped": statuses[feed.id].dropped,
            "error": statuses[feed.id].error,
        }
        for feed in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    # A pipe has no width: give the columns room instead of folding them.
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "source", "status", "in/s", "analysed/s", "dropped", "error"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    console.print(table if rows else "No feeds. Add one with `moodline feeds add SOURCE`.")


@feeds.command("add")
@click.argument("source")
@click.option("--name", help="Name to show; made from the source by default.")
@click.option("--once", is_flag=True, help="Play a file or folder once instead of looping it.")
def feeds_add(source: str, name: str | None, once: bool) -> None:
    """Add a feed and print its id."""
    from shared import config
    from shared.schema import Feed

    settings = config.load()
    with _bus() as bus:
        feed = Feed.new(
            Source.parse(source),
            name=name,
            fps=settings.fps,
            width=settings.width,
            loop=not once,
        )
        bus.put_feed(feed)
    click.echo(feed.id)


@feeds.command("rename")
@click.argument("feed_id")
@click.argument("name")
def feeds_rename(feed_id: str, name: str) -> None:
    """Give a feed another name."""
    with _bus() as bus, _naming_feeds(bus, feed_id):
        bus.change_feed(feed_id, lambda feed: feed.changed(name=name.strip()))


@feeds.command("enable")
@click.argument("feed_id")
def feeds_enable(feed_id: str) -> None:
    """Capture a feed again."""
    _switch(feed_id, enabled=True)


@feeds.command("disable")
@click.argument("feed_id")
def feeds_disable(feed_id: str) -> None:
    """Stop capturing a feed, and keep it."""
    _switch(feed_id, enabled=False)


@feeds.command("remove")
@click.argument("feed_id")
def feeds_remove(feed_id: str) -> None:
    """Remove a feed and all that is kept of it."""
    with _bus() as bus, _naming_feeds(bus, feed_id):
        bus.remove_feed(feed_id)


def _switch(feed_id: str, *, enabled: bool) -> None:
    with _bus() as bus, _naming_feeds(bus, feed_id):
        bus.change_feed(feed_id, lambda feed: feed.changed(enabled=enabled))


@contextlib.contextmanager
def _naming_feeds(bus: Bus, feed_id: str) -> Iterator[None]:
    """Say which feeds there are to who names none of them."""
    try:
        yield
    except NotFound:
        known = ", ".join(feed.id for feed in bus.feeds()) or "none"
        raise NotFound(f"There is no feed {feed_id!r}; there are: {known}.") from None


@contextlib.contextmanager
def _bus() -> Iterator[Bus]:
    from shared.bus import Bus

    _, url = _part_settings("feeds")
    bus = Bus(url)
    try:
        yield bus
    finally:
        bus.close()


@main.group()
def bench() -> None:
    """Measure Moodline on this machine."""
    # Ended from outside as by Ctrl-C: all that was begun is put away.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


class _Counts(click.ParamType[Sequence[int]]):
    """One number, or several with commas between."""

    name = "N[,M]"

    def __init__(self, least: int, most: int) -> None:
        self._one = click.IntRange(least, most)

    def convert(self, value: Any, param: Any, ctx: Any) -> Sequence[int]:
        if isinstance(value, tuple):
            return value
        return tuple(self._one.convert(part.strip(), param, ctx) for part in value.split(","))


_CLIP = click.Path(exists=True, dir_okay=False, path_type=Path)
_detect = click.option(
    "--detect",
    type=click.Choice(["every-frame", "adaptive"]),
    multiple=True,
    default=("every-frame", "adaptive"),
    help="When whole pictures are searched for faces; both ways by default.",
)
_plot = click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the figures into a file."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@bench.command("classifier")
@click.option("--threads", type=_Counts(1, 256), help="Threads to try; one and all cores.")
@click.option("--seconds", type=click.FloatRange(0, 600), default=2.0, show_default=True)
@_plot
@_as_json
def bench_classifier(
    threads: Sequence[int] | None, seconds: float, plot: Path | None, as_json: bool
) -> None:
    """Measure faces/s by backend, batch size and threads."""
    from bench import classifier
    from shared import config

    figures = classifier.measure(config.load(), threads=threads, seconds=seconds)
    _draw("classifier", figures["rows"], plot)
    _print_figures(figures, as_json=as_json)


@bench.command("pipeline")
@click.option("--clip", type=_CLIP, help="Video with the frames; the demo clip by default.")
@click.option("--seconds", type=click.FloatRange(0, 3600), default=20.0, show_default=True)
@_detect
@_plot
@_as_json
def bench_pipeline(
    clip: Path | None, seconds: float, detect: Sequence[str], plot: Path | None, as_json: bool
) -> None:
    """Measure the whole engine without transport, against a bare loop."""
    from bench import DEMO_CLIP, pipeline
    from shared import config

    path = (clip or DEMO_CLIP).resolve()
    rows = pipeline.measure(path, config.load(), detect=detect, seconds=seconds)
    _draw("pipeline", rows, plot)
    _print_rows(rows, as_json=as_json)


@bench.command("detection")
@click.argument("clips", type=_CLIP, nargs=-1)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Take no more of each.")
@_as_json
def bench_detection(clips: Sequence[Path], seconds: float | None, as_json: bool) -> None:
    """Compare adaptive detection with searching every picture."""
    from bench import DEMO_CLIP, detection
    from shared import config

    paths = [clip.resolve() for clip in clips or (DEMO_CLIP,)]
    _print_figures(detection.measure(paths, config.load(), seconds=seconds), as_json=as_json)


@bench.command("video")
@click.argument("video", type=_CLIP, required=False)
@click.option("--workers", type=_Counts(1, 256), default="1", help="Processes to try, one by one.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Take no more of it.")
@_detect
@_plot
@_as_json
def bench_video(
    video: Path | None,
    workers: Sequence[int],
    seconds: float | None,
    detect: Sequence[str],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure `moodline analyze` by number of workers, against a bare loop."""
    from bench import DEMO_CLIP
    from bench import video as recorded
    from shared import config

    path = (video or DEMO_CLIP).resolve()
    rows = recorded.measure(path, config.load(), workers=workers, detect=detect, seconds=seconds)
    _draw("video", rows, plot)
    _print_rows(rows, as_json=as_json)


@bench.command("scale")
@click.option("--workers", type=_Counts(1, 64), default="8", help="Workers to try, one by one.")
@click.option("--feeds", type=click.IntRange(1, 500), default=40, show_default=True)
@click.option("--fps", type=click.FloatRange(0.1, 60), default=15.0, show_default=True)
@click.option("--cost-ms", type=click.FloatRange(0.1, 1000), default=20.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True)
@_plot
@_as_json
def bench_scale(
    workers: Sequence[int],
    feeds: int,
    fps: float,
    cost_ms: float,
    seconds: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure the transport alone, with workers that sleep instead of looking."""
    from bench import scale

    rows = [
        scale.measure(workers=count, feeds=feeds, fps=fps, cost_ms=cost_ms, seconds=seconds)
        for count in workers
    ]
    _draw("scale", rows, plot)
    _print_rows(rows, as_json=as_json)


@bench.command("live")
@click.option("--feeds", type=click.IntRange(1, 500), default=4, show_default=True)
@click.option("--fps", type=click.FloatRange(0.1, 60), default=15.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True)
@click.option("--viewers", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--clip", type=_CLIP, help="Video that each feed plays; the demo clip by default.")
@click.option(
    "--find-limit",
    is_flag=True,
    help="Search, from --feeds on, for the most feeds with 95 % of the frames within 250 ms.",
)
@click.option(
    "--overload",
    type=click.IntRange(1, 500),
    metavar="FEEDS",
    help="After --seconds add so many feeds, remove them after as long, and see all recover.",
)
@_plot
@_as_json
def bench_live(
    feeds: int,
    fps: float,
    seconds: float,
    workers: int,
    viewers: int,
    clip: Path | None,
    find_limit: bool,
    overload: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run everything with N feeds and measure what a viewer gets."""
    from bench import DEMO_CLIP, live
    from bench import overload as overloaded

    path = (clip or DEMO_CLIP).resolve()

    def measured(count: int) -> dict[str, Any]:
        return live.measure(
            feeds=count, fps=fps, seconds=seconds, workers=workers, viewers=viewers, clip=path
        )

    if overload is not None:
        if find_limit:
            raise click.UsageError("--overload and --find-limit are two runs: give one of them.")
        if fps < overloaded.LEAST_FPS:
            raise click.UsageError(
                f"--overload needs --fps of {overloaded.LEAST_FPS:g} or more: it looks at each "
                "second by itself."
            )
        figures = overloaded.measure(
            feeds=feeds,
            more=overload,
            fps=fps,
            seconds=seconds,
            workers=workers,
            viewers=viewers,
            clip=path,
        )
        _draw("live --overload", figures["rows"], plot)
        _print_figures(figures, as_json=as_json)
        return
    if find_limit:
        limit, rows = live.find_limit(feeds, measured)
        _draw("live", rows, plot)
        _print_figures({"limit": limit, "rows": rows}, as_json=as_json)
        return
    figures = measured(feeds)
    _draw("live", [figures], plot)
    _print_figures(figures, as_json=as_json)


def _draw(command: str, rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Draw the rows where a plot was asked for."""
    if path is not None:
        from bench import plots

        plots.save(command, rows, path)


def _print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print figures of several runs of one kind: those of the last also stand at the top."""
    if as_json:
        click.echo(json.dumps({**rows[-1], **({"rows": rows} if len(rows) > 1 else {})}))
        return
    # What all rows have in common needs no column.
    same = {name for name in rows[0] if all(row[name] == rows[0][name] for row in rows)}
    figures: dict[str, Any] = {name: rows[0][name] for name in rows[0] if name in same}
    figures["rows"] = [{name: row[name] for name in row if name not in same} for row in rows]
    _print_figures(figures, as_json=False)


def _print_figures(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print figures as JSON, or as tables: one of single figures, one of rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if as_json:
        click.echo(json.dumps(figures))
        return
    console = Console(width=None if sys.stdout.isatty() else 200)
    single = {name: value for name, value in figures.items() if name != "rows"}
    if single:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in single.items():
            table.add_row(name.replace("_", " "), Text(_shown(value)))
        console.print(table)
    rows = figures.get("rows", [])
    if rows and rows[0]:
        table = Table(box=None, pad_edge=False, collapse_padding=True)
        for name in rows[0]:
            table.add_column(name.replace("_", " "), justify="right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_shown(value, between="\n")) for value in row.values()))
        console.print(table)


def _shown(value: Any, between: str = ", ") -> str:
    if isinstance(value, Mapping):
        return between.join(f"{name} {_shown(each)}" for name, each in value.items()) or "none"
    return str(value)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def settings(as_json: bool) -> None:
    """Print every setting with its help, its value, and where the value came from."""
    from shared import config

    rows = list(config.describe(config.load()))
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "variable": row.variable,
                        "value": row.value,
                        "origin": row.origin,
                        "help": row.help,
                    }
                    for row in rows
                ],
                indent=2,
            )
        )
        return
    for row in rows:
        click.echo(f"{row.variable}={row.value}  ({row.origin})")
        click.echo(f"    {row.help}")


if __name__ == "__main__":
    main()
