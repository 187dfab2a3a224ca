// The sources of a picture: dropped, pasted, chosen, taken with a camera, or a sample.

const $ = (id) => document.getElementById(id);

/** @param take (File). @param complain (Error). */
export function watchFiles(take, complain) {
  const taken = (files) => {
    if (files.length) take(files[0]);
    else complain(new Error("that was no file: save the picture first, then drop the file"));
  };
  for (const id of ["file", "camera"]) {
    $(id).addEventListener("change", ({ target }) => {
      if (target.files.length) take(target.files[0]);
      target.value = ""; // the same file may be chosen again
    });
  }
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) taken(event.clipboardData.files);
  });
  let depth = 0; // entering a child comes before leaving its parent
  const over = (by) => {
    depth = by ? depth + by : 0;
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(0);
    taken(event.dataTransfer.files);
  });
}

/** Lists the samples. @param load (url): a promise of a file's blob. @param open ({ url, name }). */
export function samples(parent, pictures, load, open) {
  parent.replaceChildren(
    ...pictures.map((picture) => {
      const [row, button, image] = ["li", "button", "img"].map((tag) => document.createElement(tag));
      Object.assign(image, { alt: picture.name, width: 48, height: 48 });
      // Not by its address: an <img> sends no token.
      load(picture.thumbnail).then((blob) => (image.src = URL.createObjectURL(blob)), () => row.remove());
      button.type = "button";
      button.title = picture.name;
      button.append(image);
      button.addEventListener("click", () => open(picture));
      row.append(button);
      return row;
    }),
  );
}
