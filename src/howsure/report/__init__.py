"""One self-contained HTML page about a scores table, with its pictures and the table beside it.

write_report        a table, and predictions where they are known → a folder
report_paths        run directories and score tables on disk → the same
write_publication   what a paper takes: vector pictures, tables, tidy data
Extra, Table        a section of someone else's for the page: text and tables, escaped
"""

from howsure.report.inputs import report_paths
from howsure.report.parts import Extra, Table
from howsure.report.publication import write_publication
from howsure.report.write import write_report

__all__ = ["Extra", "Table", "report_paths", "write_publication", "write_report"]
