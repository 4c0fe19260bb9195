// Files dropped anywhere on the page, folders opened.

const GONE_AFTER_MS = 200; // "dragover" comes every 50 ms while something is over the page

// `onFiles(files)` is called with the files of each drop.
export function acceptDrops(sign, onFiles) {
  let timer = 0;
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    sign.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => (sign.hidden = true), GONE_AFTER_MS);
  });
  addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    sign.hidden = true;
    const files = await Promise.all(entriesOf(event.dataTransfer).map(filesOf));
    onFiles(files.flat());
  });
}

// To be asked for at once: the transfer is empty as soon as its event is over.
function entriesOf(transfer) {
  return [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile())
    .filter(Boolean);
}

async function filesOf(entry) {
  if (entry instanceof File) return [entry];
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return files;
    for (const inner of some) {
      if (!inner.name.startsWith(".")) files.push(...(await filesOf(inner)));
    }
  }
}
