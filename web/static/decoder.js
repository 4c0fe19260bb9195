// Decodes JPEG away from the page's own thread: gets {id, jpeg}, answers {id, bitmap}, the bitmap
// null where the picture is damaged.

self.addEventListener("message", async ({ data: { id, jpeg } }) => {
  const blob = new Blob([jpeg], { type: "image/jpeg" });
  const bitmap = await createImageBitmap(blob).catch(() => null);
  self.postMessage({ id, bitmap }, bitmap ? [bitmap] : []);
});
