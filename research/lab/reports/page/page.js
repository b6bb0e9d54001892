"use strict";
// Shows on which side a table that is wider than the page continues.
for (const frame of document.querySelectorAll(".wide")) {
  const scroller = frame.firstElementChild;
  const tell = () => {
    const hidden = scroller.scrollWidth - scroller.clientWidth - scroller.scrollLeft;
    frame.classList.toggle("goes-on", hidden > 1);
    frame.classList.toggle("went-on", scroller.scrollLeft > 1);
  };
  scroller.addEventListener("scroll", tell, { passive: true });
  new ResizeObserver(tell).observe(scroller);
}
