"""`evalx dead-letters list`, `show`, `replay`: what could not be judged, and a second try for it."""

from __future__ import annotations

import heapq
import re
import sys
import time
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from evalx.agents.letters import DeadLetter, Query, Span, Summary, document, find, note_of, read_notes, spans, summary
from evalx.agents.reader import TopicReader
from evalx.agents.replay import Replayer, Report
from evalx.cli import show
from evalx.cli.progress import Progress
from evalx.cli.running import EXIT_NOT_ACCEPTED, be_quiet, complain, load_settings, run
from evalx.errors import UsageError
from evalx.settings import Settings

#: Dead letters that `list` shows: a screen or two.
LIST_LIMIT = 50
#: Dead letters a second that are replayed: little beside what one worker judges.
RATE = 50.0
#: Characters of a reason in the table.
REASON_CHARS = 60
#: Bytes of a value that `show` prints without `--full`.
SHOWN_BYTES = 4096

_COLUMNS = ("place", "at", "code", "lane", "language", "id", "bytes", "replayed", "reason")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_Code: TypeAlias = Annotated[
    list[str] | None, typer.Option("--code", help="Only with this error code; may be repeated.", metavar="CODE")
]
_Lane: TypeAlias = Annotated[
    list[str] | None, typer.Option("--lane", help="Only from this lane; may be repeated.", metavar="LANE")
]
_Language: TypeAlias = Annotated[
    list[str] | None, typer.Option("--language", help="Only in this language; may be repeated.", metavar="NAME")
]
_Id: TypeAlias = Annotated[
    list[str] | None, typer.Option("--id", help="Only with this id or key; may be repeated.", metavar="ID")
]
_Since: TypeAlias = Annotated[
    str | None,
    typer.Option("--since", help="Only from this time on: ISO 8601, or so long ago, such as 30m, 2h, 1d.", metavar="T"),
]
_Until: TypeAlias = Annotated[str | None, typer.Option("--until", help="Only up to this time.", metavar="T")]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What could not be judged.", no_args_is_help=True, rich_markup_mode=None)
    group.command("list", epilog="Example: evalx dead-letters list --code sandbox_fault --since 2h")(list_letters)
    group.command("show", epilog="Example: evalx dead-letters show 4:17 --raw >submission.json")(show_letter)
    group.command("replay", epilog="Example: evalx dead-letters replay --code sandbox_fault --since 2h --dry-run")(
        replay
    )
    app.add_typer(group, name="dead-letters")


def list_letters(
    code: _Code = None,
    lane: _Lane = None,
    language: _Language = None,
    submission_id: _Id = None,
    since: _Since = None,
    until: _Until = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Show at most so many, the newest.", min=1, max=100_000)
    ] = LIST_LIMIT,
    as_json: _Json = False,
) -> None:
    """List dead letters, the newest last.

    The place, PARTITION:OFFSET on the topic of dead letters, is what `show` takes. What is written while the command
    runs is left out.

    Exit codes: 0 done, also when there are none, 2 wrong usage, 3 Kafka cannot be reached.
    """
    settings = load_settings()
    be_quiet()
    query = make_query(settings, code, lane, language, submission_id, since, until)
    with Progress("reading dead letters"):
        matched, newest = run(_newest(settings, query, limit))
    if as_json:
        typer.echo(msgspec.json.encode(newest).decode())
        return
    show.table(_COLUMNS, [_row(one) for one in newest])
    if matched > len(newest):
        show.line(f"{matched} dead letters, the newest {len(newest)} are shown; --limit shows more")
    else:
        show.line(f"{matched} dead letters")


def show_letter(
    place: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `list` shows it.", metavar="PLACE")],
    full: Annotated[bool, typer.Option("--full", help="The whole value, however long.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Only the value's bytes, as they are.")] = False,
    as_json: _Json = False,
) -> None:
    """Show one dead letter: why it could not be judged, its headers and its bytes.

    Exit codes: 0 done, 1 there is none at this place, 2 wrong usage, 3 Kafka cannot be reached.
    """
    settings = load_settings()
    be_quiet()
    partition, offset = parse_place(place)
    if raw and as_json:
        raise UsageError("--raw and --json exclude each other")
    letter = run(_find_one(settings, partition, offset))
    if letter is None:
        complain(f"there is no dead letter at {place}; `evalx dead-letters list` shows those that there are")
        raise typer.Exit(EXIT_NOT_ACCEPTED)
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        sys.stdout.flush()
    elif as_json:
        typer.echo(msgspec.json.encode(document(letter, settings)).decode())
    else:
        _show(letter, settings, full=full)


def replay(
    code: _Code = None,
    lane: _Lane = None,
    language: _Language = None,
    submission_id: _Id = None,
    since: _Since = None,
    until: _Until = None,
    everything: Annotated[bool, typer.Option("--all", help="All that there are, when no filter is given.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be replayed.")] = False,
    rate: Annotated[
        float, typer.Option("--rate", help="At most so many a second.", min=0.1, max=10_000, metavar="N")
    ] = RATE,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many, the oldest.", min=1)] = None,
    as_json: _Json = False,
) -> None:
    """Send dead letters to the submissions again: same partition, key, bytes and headers, and `evalx-replayed-from`.

    Each is replayed once: what was replayed is noted on the topic of dead letters, and another run, also one at the
    same time, leaves it out. A run that was interrupted can simply be started again.

    Exit codes: 0 done, 1 some could not be replayed, 2 wrong usage, 3 Kafka cannot be reached.
    """
    settings = load_settings()
    be_quiet()
    query = make_query(settings, code, lane, language, submission_id, since, until)
    if query.is_everything and not everything:
        raise UsageError("say which dead letters: give a filter such as --code or --since, or --all")
    if dry_run:
        _dry_run(settings, query, limit, again=again, as_json=as_json)
        return
    report = _replay(settings, query, limit, rate, again=again)
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        show.line(_sentence(report))
    for failed in report.failed:
        complain(f"{failed.place} was not replayed: {failed.reason}")
    if report.failed:
        raise typer.Exit(EXIT_NOT_ACCEPTED)


def _replay(settings: Settings, query: Query, limit: int | None, rate: float, *, again: bool) -> Report:
    with Progress("replaying") as progress:
        sent = 0

        def count() -> None:
            nonlocal sent
            sent += 1
            progress.say(f"replayed {sent}")

        async def work() -> Report:
            async with Replayer(settings, rate=rate, again=again, on_sent=count) as replayer:
                return await replayer.replay(query, limit)

        try:
            return run(work())
        except BaseException:
            if sent:
                complain(f"interrupted after {sent} were replayed; start it again to go on")
            raise


def _dry_run(settings: Settings, query: Query, limit: int | None, *, again: bool, as_json: bool) -> None:
    with Progress("reading dead letters"):
        total, shown = run(_would_replay(settings, query, limit, again=again))
    if as_json:
        typer.echo(msgspec.json.encode({"would_replay": total, "dead_letters": shown}).decode())
        return
    show.table(_COLUMNS, [_row(one) for one in shown])
    more = f", the first {len(shown)} are shown" if total > len(shown) else ""
    show.line(f"{total} dead letters would be replayed{more}")


def make_query(
    settings: Settings,
    codes: list[str] | None,
    lanes: list[str] | None,
    languages: list[str] | None,
    ids: list[str] | None,
    since: str | None,
    until: str | None,
) -> Query:
    """What the options ask for.

    Raises:
        UsageError: a lane that is not there, or a time that cannot be read.
    """
    for lane in lanes or ():
        if lane not in settings.rank_of:
            raise UsageError(f"no lane {lane!r}; there are: {', '.join(settings.rank_of)}")
    return Query(
        codes=frozenset(codes or ()),
        lanes=frozenset(lanes or ()),
        languages=frozenset(languages or ()),
        ids=frozenset(ids or ()),
        since_ms=None if since is None else parse_time(since, time.time()),
        until_ms=None if until is None else parse_time(until, time.time()),
    )


def parse_time(text: str, now_s: float) -> int:
    """Milliseconds since the epoch, from ISO 8601 (local time unless it says otherwise) or from "2h" = two hours ago.

    Raises:
        UsageError: it is neither.
    """
    if (ago := re.fullmatch(r"(\d{1,9})([smhd])", text)) is not None:
        return max(0, int((now_s - int(ago[1]) * _UNITS_S[ago[2]]) * 1000))
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a time; write 2026-11-25T14:00, or 30m, 2h, 1d for so long ago") from None


def parse_place(text: str) -> tuple[int, int]:
    """Partition and offset.

    Raises:
        UsageError: it is not PARTITION:OFFSET.
    """
    if (match := re.fullmatch(r"(\d{1,9}):(\d{1,18})", text, re.ASCII)) is None:
        raise UsageError(f"{text!r} is not a place; write PARTITION:OFFSET, such as 4:17")
    return int(match[1]), int(match[2])


async def _newest(settings: Settings, query: Query, limit: int) -> tuple[int, list[Summary]]:
    """How many match, and the newest of them; no more than that is kept in memory."""
    matched = 0
    heap: list[tuple[int, int, int, Summary]] = []
    async with TopicReader(settings, settings.topic_dead_letters) as reader:
        for span in await spans(reader, query):
            async for letter in find(reader, span, query, settings):
                matched += 1
                entry = (letter.at_ms, letter.partition, letter.offset, summary(letter, settings))
                if len(heap) < limit:
                    heapq.heappush(heap, entry)
                else:
                    heapq.heappushpop(heap, entry)
    return matched, [entry[-1] for entry in sorted(heap, key=lambda entry: entry[:3])]


async def _would_replay(
    settings: Settings, query: Query, limit: int | None, *, again: bool
) -> tuple[int, list[Summary]]:
    total = 0
    first: list[Summary] = []
    async with TopicReader(settings, settings.topic_dead_letters) as reader:
        for span in await spans(reader, query):
            async for letter in find(reader, span, query, settings):
                if letter.note is not None and not again:
                    continue
                if total == limit:
                    return total, first
                total += 1
                if len(first) < LIST_LIMIT:
                    first.append(summary(letter, settings))
    return total, first


async def _find_one(settings: Settings, partition: int, offset: int) -> DeadLetter | None:
    async with TopicReader(settings, settings.topic_dead_letters) as reader:
        first, end = (await reader.bounds()).get(partition, (0, 0))
        if not first <= offset < end:
            return None
        span = Span(partition, offset, end)
        async for record in reader.scan(partition, offset, offset + 1):
            if record.offset == offset and note_of(record) is None:
                notes = await read_notes(reader, partition, span.start, span.end)
                return DeadLetter(record, notes.get(offset))
    return None


def _row(one: Summary) -> tuple[str, ...]:
    reason = one.reason if len(one.reason) <= REASON_CHARS else one.reason[:REASON_CHARS] + "..."
    replayed = "yes" if one.replayed else "no"
    name = one.id or "-"
    return (
        one.place,
        one.at,
        one.code,
        one.lane or "-",
        one.language or "-",
        name,
        str(one.size),
        replayed,
        show.one_line(reason),
    )


def _show(letter: DeadLetter, settings: Settings, *, full: bool) -> None:
    said = summary(letter, settings)
    origin = said.original
    facts: list[tuple[str, Any]] = [
        ("place", said.place),
        ("at", said.at),
        ("code", said.code),
        ("reason", said.reason),
        ("submission", f"{origin.topic} {origin.partition}:{origin.offset}" if origin is not None else "unknown"),
        ("lane", said.lane or "-"),
        ("language", said.language or "-"),
        ("id", said.id or "-"),
        ("replayed", "yes" if said.replayed else "no"),
        *([("replay of", said.replay_of)] if said.replay_of is not None else []),
        *((f"header {name}", value.decode("utf-8", "replace")) for name, value in letter.own_headers),
        ("key", "null" if letter.key is None else letter.key.decode("utf-8", "replace")),
        ("value", "null" if letter.value is None else f"{letter.size} bytes"),
    ]
    show.table(("field", "is"), [(name, show.one_line(value)) for name, value in facts])
    shown = letter.value or b""
    if shown:
        show.line(shown[: None if full else SHOWN_BYTES].decode("utf-8", "replace"))
    if not full and len(shown) > SHOWN_BYTES:
        show.line(f"... {len(shown) - SHOWN_BYTES} more bytes; --full shows all, --raw the bytes as they are")


def _sentence(report: Report) -> str:
    parts = [f"{report.replayed} of {report.matched} dead letters replayed"]
    if report.already:
        parts.append(f"{report.already} had been replayed before (--again replays them)")
    if report.left_to_another:
        parts.append(f"{report.left_to_another} left to another run that began with them; start again in two minutes")
    if report.failed:
        parts.append(f"{len(report.failed)} could not be")
    return ", ".join(parts)
