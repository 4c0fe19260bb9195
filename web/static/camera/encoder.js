// Makes JPEG away from the page's own thread, and keeps its time: a page in the background gets
// its timers late, a worker does not.
//
// {id, bitmap, longest}: answers {id, jpeg}, its longer side at most `longest` pixels.
// {id, pause}: answers {id} after so many milliseconds.

const QUALITY = 0.8;
const canvas = new OffscreenCanvas(1, 1);
const context = canvas.getContext("2d", { alpha: false });

self.addEventListener("message", async ({ data: { id, bitmap, longest, pause } }) => {
  if (!bitmap) {
    setTimeout(() => self.postMessage({ id }), pause);
    return;
  }
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const size = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  context.drawImage(bitmap, 0, 0, ...size);
  bitmap.close();
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  const jpeg = await blob.arrayBuffer();
  self.postMessage({ id, jpeg }, [jpeg]);
});
