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
