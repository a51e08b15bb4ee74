"""How the page at /docs looks, in light and dark, on phones and wide screens."""

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --quiet: #666; --link: #0b57d0;
  --get: #0a6847; --post: #8a3ffc; --good: #0a6847; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --quiet: #aaa; --link: #8ab4f8; --get: #6dd3a8; --post: #c7a6ff; --good: #6dd3a8;
    --bad: #f2948c }
}
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 0 1rem 4rem;
  overflow-wrap: break-word }
a { color: var(--link) }
code, pre { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .875em }
p code, li code, dd code, summary code { background: var(--soft); border-radius: .2em;
  padding: .1em .25em }
a code { background: none; padding: 0 }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: .4rem; overflow: auto;
  max-height: 24rem; padding: .75rem; font-size: .8125rem; line-height: 1.45 }
pre code { font-size: inherit }
h1 { font-size: 1.75rem; line-height: 1.2 }
h2 { border-bottom: 1px solid var(--line); font-size: 1.4rem; margin: 2.5rem 0 1rem;
  padding-bottom: .3rem }
h3 { font-size: 1.05rem; margin: 0 0 .5rem; line-height: 1.4 }
h4 { font-size: .95rem; margin: 1.5rem 0 .5rem }
h4 small, .also, .kind { color: var(--quiet); font-weight: normal }
article { border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1.25rem; padding: 1rem }
article:target { border-color: var(--link) }
article > :last-child { margin-bottom: 0 }
p { margin: .5rem 0 }
.summary { font-weight: 600 }
.method { border: 1px solid; border-radius: .25rem; font-size: .7rem; font-weight: 700;
  letter-spacing: .03em; margin-right: .5em; padding: .1em .4em; vertical-align: .1em }
.get { color: var(--get) }
.post { color: var(--post) }
dl { border-top: 1px solid var(--line); margin: .5rem 0 }
dl > div { border-bottom: 1px solid var(--line); padding: .5rem 0 }
dt code { font-weight: 600 }
dt .kind { margin-left: .6em; font-size: .875rem }
dt .kind code { font-weight: normal }
dd { margin: 0 }
dd p { margin: .15rem 0 0 }
dd dl { border-left: 2px solid var(--line); border-top: 0; margin: .4rem 0 0; padding-left: .8rem }
dd dl > div:last-child { border-bottom: 0 }
.ours { border: 1px solid var(--line); border-radius: 1em; color: var(--quiet); font-size: .7rem;
  margin-left: .4em; padding: .05em .6em }
details { border-bottom: 1px solid var(--line); padding: .4rem 0 }
summary { cursor: pointer }
.s2 { color: var(--good) }
.s4, .s5 { color: var(--bad) }
nav details { border: 0 }
nav summary { font-weight: 600 }
nav p { color: var(--quiet); font-size: .875rem; margin: .75rem 0 .1rem }
nav ul { list-style: none; margin: 0; padding: 0 }
nav li a { display: block; padding: .15rem 0; text-decoration: none }
nav li a:hover { text-decoration: underline }
@media (min-width: 62rem) {
  body { display: grid; gap: 2.5rem; grid-template-columns: 21rem minmax(0, 1fr) }
  nav { align-self: start; max-height: 100vh; overflow: auto; padding: 1.25rem 0; position: sticky;
    top: 0 }
  dl > div { display: grid; gap: .25rem 1.25rem; grid-template-columns: 15rem minmax(0, 1fr) }
  dd dl > div { grid-template-columns: minmax(0, 1fr) }
  dt .kind { display: block; margin: .1rem 0 0 }
}
"""
