// A picture to keep: the one that is shown with what is drawn over it, in its own size, as JPEG.

const QUALITY = 0.93;

// `paint(context, size)` draws as on the screen; `meta` is the picture's.
export async function download(paint, meta, name) {
  const canvas = new OffscreenCanvas(meta.width, meta.height);
  paint(canvas.getContext("2d", { alpha: false }), [meta.width, meta.height]);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = fileName(name, meta.captured_at);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// "Front door 2026-11-22 16.45.43.jpg", by the reader's clock, without what file systems refuse.
export function fileName(name, capturedAt) {
  const at = new Date(capturedAt * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(".");
  const safe = name.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim().slice(0, 60) || "Moodline";
  return `${safe} ${day} ${time}.jpg`;
}
