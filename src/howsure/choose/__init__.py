"""Which model and method for this application, and from which p_correct on: `howsure choose`.

Application      the wish: subjects and weights, target accuracy or least coverage, cost limit
choose           predictions and a wish → Choice
Choice           candidates ranked and told apart, each with its threshold and what is promised
headline, columns, cells, explained, sentences, section   what people read of it
"""

from howsure.choose.application import Application
from howsure.choose.choice import Choice, Ranked, choose
from howsure.choose.costs import measured_seconds, stated_costs
from howsure.choose.guarantee import Threshold
from howsure.choose.sources import Held, read
from howsure.choose.words import cells, columns, explained, headline, section, sentences, to_json

__all__ = [
    "Application",
    "Choice",
    "Held",
    "Ranked",
    "Threshold",
    "cells",
    "choose",
    "columns",
    "explained",
    "headline",
    "measured_seconds",
    "read",
    "section",
    "sentences",
    "stated_costs",
    "to_json",
]
