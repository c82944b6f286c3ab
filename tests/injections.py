"""Texts that try to be more than text: to run, to fetch, to leave their place, to be a formula.

Whatever runs calls `alert`; whatever fetches asks 127.0.0.1 port 9, where nobody answers.
"""

from __future__ import annotations

_ELSEWHERE = "http://127.0.0.1:9"

INJECTIONS: tuple[str, ...] = (
    # elements
    "<script>alert('a script')</script>",
    "</script><script>alert('after the end of a script')</script>",
    "</title><script>alert('after a title')</script>",
    "</style><script>alert('after a style')</script>",
    "</textarea></select></option><script>alert('after a control')</script>",
    "--><script>alert('after a comment')</script>",
    "<!--<script>alert('in a comment that never ends')",
    "]]><script>alert('after CDATA')</script>",
    "<img src=x onerror=alert('a-broken-image')>",
    "<svg onload=alert('a-drawing')>",
    "<svg><script>alert('a script in a drawing')</script></svg>",
    "<svg><animate onbegin=alert('a-movement') attributeName=x dur=1s></svg>",
    "<math><mtext><script>alert('a formula')</script></mtext></math>",
    "<body onload=alert('a-second-body')>",
    "<details open ontoggle=alert('an-opened-part')>x</details>",
    "<input autofocus onfocus=alert('a-focus')>",
    "<video><source onerror=alert('a-film')></video>",
    "<marquee onstart=alert('a-ticker')>x</marquee>",
    "<iframe src=\"javascript:alert('a frame')\"></iframe>",
    "<iframe srcdoc=\"<script>parent.alert('a frame of its own')</script>\"></iframe>",
    "<object data=\"data:text/html,<script>parent.alert('an object')</script>\"></object>",
    "<embed src=\"javascript:alert('embedded')\">",
    "<template><script>alert('a template')</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert('a-title-of-a-paragraph')>\">",
    "<table><tr><td></table></table><script>alert('after a table')</script>",
    # attributes
    "\"><img src=x onerror=alert('after-a-quoted-value')>",
    "'><img src=x onerror=alert('after-a-value-in-single-quotes')>",
    '" onmouseover="alert(\'a pointer\') " x="',
    "' onfocus='alert(1)' autofocus tabindex='1",
    " onclick=alert('an-unquoted-value') x=",
    "javascript:alert('an address')",
    "<a href=\"javascript:alert('a link')\">x</a>",
    "<p style=\"background:url(javascript:alert('a background'))\">",
    # what is fetched
    f'<img src="{_ELSEWHERE}/image">',
    f'<link rel="stylesheet" href="{_ELSEWHERE}/style">',
    f'<style>@import "{_ELSEWHERE}/import"; body{{display:none}}</style>',
    f'<meta http-equiv="refresh" content="0;url={_ELSEWHERE}/refresh">',
    f'<base href="{_ELSEWHERE}/base/">',
    f'<form action="{_ELSEWHERE}/form"><button autofocus>x</button></form>',
    f'<script src="{_ELSEWHERE}/script"></script>',
    f"url({_ELSEWHERE}/url)",
    # scripts, templates, escapes
    "\";alert('after a string');//",
    "`;alert('after a template');`${alert('in a template')}",
    "{{ 7 * 7 }}{% for x in [1, 2] %}<script>alert('a template of the page')</script>{% endfor %}",
    "{{ self.__init__.__globals__ }}",
    "\\u003cscript\\u003ealert('escaped for JSON')\\u003c/script\\u003e",
    "&lt;script&gt;alert('escaped for HTML')&lt;/script&gt;",
    "&#60;script&#62;alert('by number')&#60;/script&#62;",
    "%3Cscript%3Ealert('escaped for addresses')%3C/script%3E",
    "<scr\x00ipt>alert('a zero within')</scr\x00ipt>",
    "<\u017fcript>alert('a long s')</\u017fcript>",
    "\uff1cscript\uff1ealert('wide brackets')\uff1c/script\uff1e",
    "\u202e<script>alert('from right to left')</script>",
    "\u2028alert('a line of its own')\u2029",
    "__proto__",
    "constructor",
    # for other programs
    '=HYPERLINK("http://127.0.0.1:9/cell","a cell")',
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1+1",
    "'; DROP TABLE scores; --",
    "$(touch x) `touch x` | touch x",
    "../../../../etc/passwd",
    "\\input{/etc/passwd} \\write18{x} $x_1^2$ % & # ~ {",
)
