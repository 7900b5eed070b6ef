// Decides the contrasts that axe leaves open, by measuring: the pixels behind a text, from pictures
// that are taken while all text is transparent.
window.contrast = (() => {
  const hidden = new CSSStyleSheet();
  hidden.replaceSync(`*, *::before, *::after, ::placeholder { color: transparent !important;
    transition: none !important; animation: none !important; caret-color: transparent !important; }`);
  let texts = [];

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  /** Any color as red, green, blue and opacity. */
  function parse(color) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  const luminance = (color) => {
    const [red, green, blue] = color.map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  function opacity(element) {
    let all = 1;
    for (let one = element; one; one = one.parentElement) all *= Number(getComputedStyle(one).opacity);
    return all;
  }

  return {
    /** Finds what axe cannot decide, and answers how much that is. */
    async undecided() {
      const found = await axe.run({ runOnly: ["color-contrast"], resultTypes: ["incomplete"] });
      const nodes = found.incomplete.flatMap((one) => one.nodes);
      texts = nodes.map((node) => document.querySelector(node.target[0])).filter((one) => one?.checkVisibility()).map((element) => {
        const style = getComputedStyle(element, element.matches("input") && !element.value ? "::placeholder" : null);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        return { element, html: element.outerHTML.slice(0, 200), color: parse(style.color), opacity: opacity(element), needs: large ? 3 : 4.5 };
      });
      return texts.length;
    },
    hide: () => (document.adoptedStyleSheets = [...document.adoptedStyleSheets, hidden]),
    show: () => (document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== hidden)),
    /** Where the text is in the document, once it is in view; null if it is not shown any more. */
    place(at) {
      const { element } = texts[at];
      if (!element.isConnected) return null;
      element.scrollIntoView({ block: "center", inline: "center" });
      const range = document.createRange();
      range.selectNodeContents(element);
      const text = range.getBoundingClientRect();
      const box = element.getBoundingClientRect();
      const whole = text.width && !element.matches("select, input") ? text : box;
      const [x, y] = [Math.max(whole.left, box.left), Math.max(whole.top, box.top)];
      const [width, height] = [Math.min(whole.right, box.right, innerWidth) - x, Math.min(whole.bottom, box.bottom, innerHeight) - y];
      return width >= 1 && height >= 1 ? { x: x + scrollX, y: y + scrollY, width, height } : null;
    },
    /** What is wrong with a text, by a picture of what is behind it; null if nothing is. */
    async measure(at, picture) {
      const { html, color, opacity, needs } = texts[at];
      const image = new Image();
      image.src = `data:image/png;base64,${picture}`;
      await image.decode();
      const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, image.width, image.height);
      const counts = new Map();
      for (let at = 0; at < data.length; at += 4) {
        const key = `${data[at]},${data[at + 1]},${data[at + 2]}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      const alpha = color[3] * opacity;
      const grounds = [...counts].filter(([, many]) => many >= data.length / 4 / 10).map(([key]) => key.split(",").map(Number));
      const least = Math.min(...grounds.map((ground) => ratio(ground, ground.map((part, at) => color[at] * alpha + part * (1 - alpha)))));
      return least >= needs ? null : `${least.toFixed(2)} of ${needs}: ${html}`;
    },
  };
})();
0;
