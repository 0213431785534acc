"""A learner's own progress over HTTP: that of the profile which the key is for."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from api import documents as doc
from api.access import Asking, profile_of
from api.routes import TOLD, Atlas, ids_of
from service import audit, wire

router = APIRouter(prefix="/v1/me", tags=["progress"], responses=TOLD)


async def _profile(caller: Asking) -> str:
    return profile_of(caller)


Profile = Annotated[str, Depends(_profile)]


@router.get("", response_model=doc.Learner)
def me(atlas: Atlas, profile: Profile) -> dict[str, Any]:
    """What you know, learn and plan, your notes, and what is in review."""
    return wire.learner(atlas, atlas.learners.learner(profile))


@router.put("/topics", response_model=doc.Learner)
def mark(atlas: Atlas, profile: Profile, wanted: doc.Marks) -> dict[str, Any]:
    """Say what topics are to you: known, being learned, or planned."""
    return wire.learner(atlas, atlas.learners.mark(profile, ids_of(atlas, wanted.topics), wanted.status))


@router.post("/topics/unmark", response_model=doc.Learner)
def unmark(atlas: Atlas, profile: Profile, wanted: doc.Topics) -> dict[str, Any]:
    """Take the marks off topics, and these out of the reviews."""
    return wire.learner(atlas, atlas.learners.unmark(profile, ids_of(atlas, wanted.topics)))


@router.put("/note", response_model=doc.Learner)
def note(atlas: Atlas, profile: Profile, wanted: doc.Note) -> dict[str, Any]:
    """Keep a note about a topic in place of the one before."""
    return wire.learner(atlas, atlas.learners.note(profile, atlas.find_topic(wanted.topic).topic.id, wanted.text))


@router.get("/review")
def due(atlas: Atlas, profile: Profile, days: Annotated[int, Query(ge=1, le=60)] = 7) -> doc.Due:
    """What to review now: the question whose review saves most others, and how much comes due day by day."""
    learner = atlas.learners.learner(profile)
    card = atlas.learners.next_card(learner)
    return doc.Due(
        due=len(atlas.learners.due(learner)),
        by_day=atlas.learners.due_by_day(learner, days),
        card=wire.card(card) if card else None,
    )


@router.post("/review")
def rate(atlas: Atlas, profile: Profile, rated: doc.Rated) -> dict[str, Any]:
    """Keep how a recall went; tells when the topic is due again, and after a failure where to look first."""
    from study.memory import Rating

    topic_id = atlas.find_topic(rated.topic).topic.id
    learner = atlas.learners.review(profile, topic_id, Rating[rated.rating])
    return wire.reviewed(atlas, learner, topic_id, Rating[rated.rating])


@router.post("/review/topics", response_model=doc.Learner)
def enrol(atlas: Atlas, profile: Profile, wanted: doc.Topics) -> dict[str, Any]:
    """Let topics be reviewed from now on."""
    return wire.learner(atlas, atlas.learners.enrol(profile, ids_of(atlas, wanted.topics)))


@router.post("/placement", response_model=doc.Placement)
def place(atlas: Atlas, profile: Profile, wanted: doc.Answers) -> dict[str, Any]:
    """Find out with at most twelve questions what you know of a section: send the answers so far, get the next one.

    With `keep` what was found is marked, what you said apart from what follows from it.
    """
    root = atlas.find_topic(wanted.topic).topic.id
    answers = {atlas.store.topic(topic_id).id: known for topic_id, known in wanted.answers.items()}
    found = atlas.learners.place(atlas.learners.learner(profile), root, answers)
    if wanted.keep:
        atlas.learners.keep_placement(profile, root, answers)
    return wire.placement(atlas, found, answers)


@router.get("/history")
def history(atlas: Atlas, profile: Profile) -> list[dict[str, Any]]:
    """Everything that you did, first things first."""
    return [msgspec.to_builtins(event) for event in atlas.learners.history(profile)]


@router.get("/export")
def export(atlas: Atlas, profile: Profile, caller: Asking) -> Response:
    """All of your data, as `genatlas profile import` reads it."""
    audit.record(atlas.settings.home, caller.name, "profile exported", profile=profile)
    return Response(atlas.learners.exported(profile), media_type="application/json")


@router.delete("", status_code=204)
def delete(atlas: Atlas, profile: Profile, caller: Asking) -> None:
    """Delete all of your data, history included."""
    atlas.learners.delete(profile)
    audit.record(atlas.settings.home, caller.name, "profile deleted", profile=profile)
