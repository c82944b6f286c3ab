"""One self-contained HTML page about a scores table, with its pictures and the table beside it.

write_report     a table, and predictions where they are known → a folder
report_paths     run directories and score tables on disk → the same
"""

from howsure.report.inputs import report_paths
from howsure.report.write import write_report

__all__ = ["report_paths", "write_report"]
