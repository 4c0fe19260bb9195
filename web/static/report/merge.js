// Asks who is the same person as somebody; whoever is seen beside them in one picture cannot be.

import { text } from "../texts.js";

export class MergeDialog {
  #dialog = document.getElementById("merge-dialog");
  #list = this.#dialog.querySelector("ul");
  #onChosen;

  // `onChosen({id, into})` is called with the choice.
  constructor(onChosen) {
    this.#onChosen = onChosen;
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
  }

  open(recording, id) {
    const name = recording.nameOf(id);
    this.#dialog.querySelector("h2").textContent = text.report.mergeTitle(name);
    const others = recording.people.filter((person) => person.id !== id);
    this.#dialog.querySelector(".nobody").hidden = others.length > 0;
    this.#list.replaceChildren(
      ...others.map((person) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        const words = document.createElement("span");
        const other = recording.nameOf(person.id);
        button.type = "button";
        button.className = "choice";
        words.textContent = other;
        if (person.portrait) {
          const face = document.createElement("img");
          face.src = person.portrait;
          face.alt = "";
          button.append(face);
        }
        button.append(words);
        if (recording.areTogether(id, person.id)) {
          const reason = document.createElement("small");
          reason.textContent = text.report.notTogether;
          button.append(reason);
          button.disabled = true;
        }
        button.addEventListener("click", () => {
          this.#dialog.close();
          this.#onChosen({ id, into: person.id });
        });
        item.append(button);
        return item;
      }),
    );
    this.#dialog.showModal();
  }
}
