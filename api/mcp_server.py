"""The atlas for language models over MCP (modelcontextprotocol.io): tools, topics as resources, tutoring prompts.

Answers are Markdown in pages of less than 2,000 tokens; what is longer ends with the cursor of its next page.
"""

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import anyio
from anyio import to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from api import mcp_texts as texts
from api.access import Caller
from api.routes import ids_of
from graph import AtlasError, TopicNotFound, transitive_prerequisites
from search import Filters
from search.comparison import built_table
from service import LiveService, NothingCompared, Service, user_message
from service.runs import RunQueue

INSTRUCTIONS = """A knowledge graph of 2,063 study topics of generative AI, with prerequisites and their reasons,
comparisons, cited answers and demos that run. Find a topic with `search` before you teach it; take facts and sources
from `ask` and `topic`; let a learner begin with what `prerequisites` and `path` say comes first; show what you claim
with `run_demo`, whose claims are checked in each run. Topics are named by id, by the end of an id, or by words."""
FOLLOW_S = 0.2
"""Seconds between looks at a demo that runs."""

Name = Annotated[str, Field(min_length=1, max_length=400, description="A topic: its id, the end of its id, or words")]
Words = Annotated[str, Field(min_length=1, max_length=1000)]
Cursor = Annotated[str | None, Field(max_length=40, description="Where the answer before this one said there is more")]
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
RUNS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


def create_server(live: LiveService, runs: Callable[[], RunQueue]) -> MCPServer[Any]:
    """The server over the atlas that serves; demos run in the queue that `runs` gives."""
    server: MCPServer[Any] = MCPServer(
        "genatlas", title="GenAtlas", version=version("genatlas"), instructions=INSTRUCTIONS
    )
    _add_tools(server, live)
    _add_run_demo(server, live, runs)
    _add_resources(server, live)
    _add_prompts(server, live)
    return server


@contextmanager
def _told() -> Generator[None]:
    """Have a user's mistake reach the model in words."""
    try:
        yield
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        raise ToolError(message) from error


def _add_tools(server: MCPServer[Any], live: LiveService) -> None:
    def paged(text: str, cursor: str | None, atlas: Service) -> str:
        return texts.page(text, cursor, atlas.opened.id)

    @server.tool(annotations=READS, structured_output=False)
    def search(
        query: Words,
        k: Annotated[int, Field(ge=1, le=30, description="How many topics")] = 5,
        section: Annotated[str | None, Field(max_length=400, description="Only of this section (its id)")] = None,
        cursor: Cursor = None,
    ) -> str:
        """Find topics by meaning and by words. What the atlas does not cover finds nothing, and it says so."""
        with _told():
            atlas = live.current()
            return paged(texts.ranking_text(atlas.search(query, k, Filters(section))), cursor, atlas)

    @server.tool(annotations=READS, structured_output=False)
    def ask(
        question: Words,
        after: Annotated[str | None, Field(max_length=400, description="The topic asked about before")] = None,
        cursor: Cursor = None,
    ) -> str:
        """Answer a question in the atlas's own sentences, each cited to its topic and the works behind it."""
        with _told():
            atlas = live.current()
            before = None if after is None else atlas.find_topic(after).topic.id
            return paged(texts.answer_text(atlas, atlas.ask(question, before)), cursor, atlas)

    @server.tool(annotations=READS, structured_output=False)
    def topic(topic: Name, cursor: Cursor = None) -> str:
        """Read a topic: its text, formula, what to learn first and why, subtopics, demo, works."""
        with _told():
            atlas = live.current()
            return paged(texts.topic_text(atlas, atlas.find_topic(topic).topic), cursor, atlas)

    @server.tool(annotations=READS, structured_output=False)
    def prerequisites(
        topic: Name,
        closure: Annotated[bool, Field(description="Also what the prerequisites need")] = False,
        cursor: Cursor = None,
    ) -> str:
        """List what a learner must know before a topic, with the reason for each."""
        with _told():
            atlas = live.current()
            found = atlas.find_topic(topic).topic
            direct = atlas.store.effective_prerequisites(found.id)
            edges = transitive_prerequisites(atlas.store, found.id) if closure else direct
            return paged(texts.prerequisites_text(atlas, found, edges), cursor, atlas)

    @server.tool(annotations=READS, structured_output=False)
    def compare(one: Name, other: Name, cursor: Cursor = None) -> str:
        """Set two topics beside each other, aspect by aspect."""
        with _told():
            atlas = live.current()
            sides = [atlas.find_topic(name).topic for name in (one, other)]
            try:
                told = texts.comparison_text(atlas, atlas.compare(sides[0].id, sides[1].id))
            except NothingCompared as nobody:
                table = built_table(sides, atlas.store)
                told = f"{nobody}\n\nFrom the topics' own texts:\n\n{texts.table_text(table)}"
            return paged(told, cursor, atlas)

    @server.tool(annotations=READS, structured_output=False)
    def path(
        goals: Annotated[list[Name], Field(min_length=1, max_length=20, description="Topics to reach")],
        known: Annotated[list[Name], Field(max_length=500, description="Topics that the learner knows")] = [],  # noqa: B006 (a copy is taken)
        thorough: Annotated[bool, Field(description="With helpful prerequisites and subtopics")] = False,
        minutes: Annotated[int | None, Field(ge=5, le=960, description="Minutes a day, for sessions by day")] = None,
        cursor: Cursor = None,
    ) -> str:
        """Plan what to learn for some goals, in an order that breaks no prerequisite, each step with its reason."""
        from study import path_markdown

        with _told():
            atlas = live.current()
            reach, have = ids_of(atlas, goals), ids_of(atlas, known)
            return paged(path_markdown(atlas.path(reach, have, thorough), atlas.store, minutes), cursor, atlas)

    _ = search, ask, topic, prerequisites, compare, path  # the server holds them


def _add_run_demo(server: MCPServer[Any], live: LiveService, runs: Callable[[], RunQueue]) -> None:
    @server.tool(annotations=RUNS, structured_output=False)
    async def run_demo(
        demo: Annotated[str, Field(max_length=100, description="A demo's id, as topics and answers name it")],
        ctx: Context[Any, Any],
        params: Annotated[dict[str, int | float | bool | str], Field(description="What differs from defaults")] = {},  # noqa: B006
        preset: Annotated[str | None, Field(max_length=100, description="One of its presets")] = None,
        cursor: Cursor = None,
    ) -> str:
        """Run a demo in torch and see which of its claims hold; some presets break the mechanism on purpose."""
        owner = _runner(ctx)
        with _told():
            atlas = live.current()
            given = {**await to_thread.run_sync(atlas.preset, demo, preset), **params} if preset else params
            queue = runs()
            run = await to_thread.run_sync(queue.submit, demo, given, owner)
            try:
                while not run.over:
                    seen = run.progress()
                    if seen:
                        await ctx.report_progress(seen.fraction, 1.0, seen.message)
                    await anyio.sleep(FOLLOW_S)
            finally:
                queue.cancel(run)  # nothing where it is over; else the caller has gone
            await ctx.report_progress(1.0, 1.0, run.state)
            if run.outcome is None:
                raise ToolError(run.error or f"{demo} gave no result.")
            return texts.page(texts.outcome_text(run.outcome), cursor, atlas.opened.id)

    _ = run_demo


def _runner(ctx: Context[Any, Any]) -> str:
    """Who runs a demo: over HTTP a key with that scope, over standard input whoever started the process."""
    request: Any = ctx.request_context.request
    if request is None:
        return "this process"
    caller: Caller = request.state.caller
    try:
        caller.needs("run-demos")
    except AtlasError as error:
        raise ToolError(str(error)) from error
    return caller.name


def _add_resources(server: MCPServer[Any], live: LiveService) -> None:
    @server.resource("genatlas://sections", mime_type="text/markdown")
    def sections() -> str:
        """The sections of the atlas with their first level of topics."""
        store = live.current().store
        lines: list[str] = []
        for topic in store.topics():
            if topic.depth == 0:
                lines.append(f"# {topic.title} (`{topic.id}`)")
            elif topic.depth == 1:
                lines.append(f"- {topic.title} (`{topic.id}`)")
        return "\n".join(lines)

    @server.resource("genatlas://topic/{+topic}", mime_type="text/markdown")
    def topic_page(topic: str) -> str:
        """A topic, whole: its text, what to learn first, subtopics, demo, works."""
        atlas = live.current()
        try:
            return texts.topic_text(atlas, atlas.store.topic(topic))
        except TopicNotFound as unknown:
            raise ResourceNotFoundError(str(unknown)) from unknown
        except AtlasError as error:
            raise ResourceError(str(error)) from error

    _ = sections, topic_page


def _add_prompts(server: MCPServer[Any], live: LiveService) -> None:
    def text_of(topic: str) -> str:
        atlas = live.current()
        return texts.page(texts.topic_text(atlas, atlas.find_topic(topic).topic), None, atlas.opened.id)

    @server.prompt()
    def teach(topic: str, knows: str = "") -> str:
        """Teach a topic step by step, from what the learner knows."""
        background = f" I know: {knows}." if knows else ""
        return (
            f"Teach me this topic.{background} First ask me two short questions that show whether I have what it rests "
            "on, and close the gaps you find with the tool `prerequisites`. Then explain it in small steps, one idea "
            "each, with a check after each; run its demo with the tool `run_demo`, let me predict what the broken "
            f"preset will do, and cite your sources.\n\n{text_of(topic)}"
        )

    @server.prompt()
    def quiz(topic: str) -> str:
        """Examine the learner on a topic, one question at a time."""
        return (
            "Examine me on this topic: five questions, one at a time, from recall to use, none that the text answers "
            "word for word. After each answer say what was right, what was missing and where it stands. End with what "
            f"I should read again.\n\n{text_of(topic)}"
        )

    @server.prompt()
    def plan(goal: str, hours: str = "") -> str:
        """Plan a course of study to a goal."""
        time = f" I have {hours} hours." if hours else ""
        return (
            f"Plan how I get to {goal}.{time} Ask me first what I know already. Then use the tool `path`, tell me why "
            "each part of it comes where it does, cut it to my time by leaving out what matters least for the goal, "
            "and name a demo for each part."
        )

    _ = teach, quiz, plan


def serve_stdio(live: LiveService) -> None:
    """Answer over standard input and output until they close."""
    runs = RunQueue(live.current)
    try:
        serving: Callable[[], Coroutine[Any, Any, None]] = create_server(live, lambda: runs).run_stdio_async
        anyio.run(serving)
    finally:
        runs.close(0)
