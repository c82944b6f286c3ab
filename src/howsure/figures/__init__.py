"""Pictures: a scores table or predictions in, a matplotlib Figure out; nothing is read or written.

heatmap          subjects x (model x method), a panel for ECE and one for AUROC
bars             a pair of panels per model, a bar per method
reliability      stated probability against the share that was correct
risk_coverage    wrong answers among the surest ones
paper_heatmap    the heatmap at the width of a paper's column; paper_bars likewise
"""

from howsure.figures.bars import bars
from howsure.figures.encode import pdf, png, svg
from howsure.figures.heatmap import heatmap
from howsure.figures.paper import paper_bars, paper_heatmap
from howsure.figures.reliability import reliability
from howsure.figures.risk import risk_coverage
from howsure.figures.table import formats

__all__ = [
    "bars",
    "formats",
    "heatmap",
    "paper_bars",
    "paper_heatmap",
    "pdf",
    "png",
    "reliability",
    "risk_coverage",
    "svg",
]
