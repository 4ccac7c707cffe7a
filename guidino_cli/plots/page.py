"""What all HTML pages share: one style, tables that sort by a click, pictures inside the page."""

import base64
import io

from PIL import Image

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--bar:#3f8fc5}
body{font:15px/1.5 system-ui,sans-serif;max-width:1020px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)} h3{font-size:1rem}
.boxes{display:flex;flex-wrap:wrap;gap:.8rem}
.boxes div{border:1px solid var(--line);border-radius:6px;padding:.6rem 1rem}
.boxes b{display:block;font-size:1.6rem} .boxes span{font-weight:600} .boxes small{display:block;opacity:.75}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right}
td:first-child,th:first-child,#cases :is(td,th):nth-child(-n+3),#cases :is(td,th):last-child{text-align:left}
.target td{font-weight:600;background:var(--soft)} .small{opacity:.75;font-size:.85rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(290px,1fr));gap:.8rem}
svg{width:100%;height:auto} svg rect{fill:var(--bar)} svg text{font:10px system-ui,sans-serif;fill:currentColor}
svg .title{font-size:12px;font-weight:600} svg line{stroke:currentColor;stroke-width:1.5}
svg .median{stroke-dasharray:4 3} svg .axis{stroke-width:.7}
.pictures{display:flex;flex-wrap:wrap;gap:1rem} figure{margin:0;width:310px} figure img{width:100%}
figcaption{font-size:.85rem;overflow-wrap:anywhere} .legend span{margin-right:1.2rem;white-space:nowrap}
.legend i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;border:1px solid #555}
.fail{font-weight:600}
.scroll{max-height:36rem;overflow:auto} th{position:sticky;top:0;background:Canvas}
th button{all:unset;cursor:pointer;font-weight:600}
"""
"""Follows the reader's choice of a light or dark page; a table with the id `cases` is sorted by `SCRIPT`."""

SCRIPT = """
document.querySelectorAll('#cases th').forEach((head, place) => {
  let up = false;
  head.addEventListener('click', () => {
    const body = document.querySelector('#cases tbody'), rows = [...body.rows];
    up = !up;
    rows.sort((a, b) => {
      const x = a.cells[place].textContent, y = b.cells[place].textContent, d = parseFloat(x) - parseFloat(y);
      return (up ? 1 : -1) * (isNaN(d) ? x.localeCompare(y, undefined, {numeric: true}) : d);
    });
    body.append(...rows);
  });
});
"""


def small_uri(picture: Image.Image, *, width: int) -> str:
    """A picture no wider than `width` pixels as an address that holds it, in as few bytes as look well."""
    content = io.BytesIO()
    scale = min(1.0, width / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(content, format="WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")
