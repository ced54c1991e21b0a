"""What a fact about a kind can become when the world moves on: another value that a person could believe.

A drum may well be used for calling and a boat be made of rubber; nobody boils a ladder or meets a cactus in the sky.
"""

from __future__ import annotations

from .relations import MADE, OWNER, PLACE, USE, Relation, words

_USES = """
kettle    drinking eating calling light
anchor    building locking climbing fighting
umbrella  decoration fighting sailing resting
key       decoration music calling building
fish      decoration light dressing drinking
mushroom  decoration shelter drinking light
drum      calling decoration resting boiling
ladder    building decoration resting fighting
bell      music decoration drinking light
cup       eating decoration music boiling
hat       shelter decoration drinking sending
boat      travel shelter resting building
tree      shelter building resting light
star      travel sailing reading calling
moon      travel sailing decoration reading
heart     light music eating calling sending
flower    eating sending calling dressing drinking
lamp      calling reading sailing boiling
book      music decoration sending building
clock     music decoration travel sailing
hammer    fighting music climbing locking
sword     decoration eating building climbing
bottle    light music sending decoration
candle    decoration boiling reading calling
crown     decoration fighting calling light
guitar    calling decoration fighting resting
leaf      eating drinking dressing shelter
chair     climbing decoration reading fighting
flag      sending dressing shelter sailing
kite      calling sailing sending travel
tent      shelter decoration dressing reading
wheel     building decoration music sailing
envelope  decoration locking reading music
apple     drinking decoration sending light
cactus    drinking eating shelter light
rocket    sending calling light fighting
windmill  light shelter building drinking travel
snail     eating decoration music dressing travel sending
igloo     shelter resting eating light music reading
robot     building fighting calling travel music reading
camera    light decoration calling reading fighting sending
trumpet   calling light drinking fighting building
"""
_USES_OF: dict[str, tuple[str, ...]] = {
    kind: tuple(values) for kind, *values in (line.split() for line in _USES.strip().splitlines())
}

_MATERIALS = words("steel iron cloth brass leather wood clay glass paper wax gold rubber silver stone fiber")
_MATERIALS_OF = {
    "star": words("gold silver glass iron rock paper"),
    "moon": words("gold silver glass iron stone gas"),
    "snail": words("flesh glass clay gold stone rubber"),
}

_ROOMS = words("kitchen street castle workshop church bedroom hospital garden library school palace station stage")
_OUTDOORS = words("harbor street castle forest garden palace desert station school")
_PLACES_OF = {
    "anchor": words("river castle garden workshop street church"),
    "boat": words("river castle garden street desert station"),
    "fish": words("harbor kitchen garden palace forest"),
    "mushroom": words("garden castle kitchen harbor desert street"),
    "star": words("church palace castle stage school"),
    "moon": words("church river stage castle library"),
    "kite": words("garden school street harbor desert"),
    **dict.fromkeys(("ladder", "tree", "flag", "tent", "cactus", "rocket", "windmill", "igloo"), _OUTDOORS),
    **dict.fromkeys(("leaf", "apple", "flower", "snail"), (*_OUTDOORS, "kitchen", "library", "church")),
}


def new_values(kind: str, relation: Relation) -> tuple[str, ...]:
    """All that a fact about a kind may become; the old value can be among them."""
    if relation is USE:
        return _USES_OF[kind]
    if relation is MADE:
        return _MATERIALS_OF.get(kind, _MATERIALS)
    if relation is PLACE:
        return _PLACES_OF.get(kind, _ROOMS)
    assert relation is OWNER
    return relation.values  # anybody may own anything
