// Play previews while the pointer is on them; a click or the Enter key starts one with the controls of the browser.
// Without scripts, the controls are there from the beginning.
"use strict";

{
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const quiet = (target) => target.matches?.("video.preview") && !target.controls; // plays without controls
  const play = (video) => video.play().catch(() => {}); // a rejection: the pointer left before it began
  const hold = ({ target, type, key }) => {
    if (!quiet(target) || (type === "keydown" && key !== "Enter")) return;
    target.controls = true;
    play(target);
  };
  addEventListener("pointerover", ({ target, pointerType }) => {
    if (quiet(target) && pointerType === "mouse" && !calm.matches) play(target);
  });
  addEventListener("pointerout", ({ target }) => quiet(target) && target.pause());
  addEventListener("click", hold);
  addEventListener("keydown", hold);
  for (const video of document.querySelectorAll("video.preview")) Object.assign(video, { controls: false, tabIndex: 0 });
}
