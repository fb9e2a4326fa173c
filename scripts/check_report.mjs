// Opens pages of `asr report` in headless Chromium, as scripts/check_report.sh has it, and tells what came of it.
//
//     node check_report.mjs CHROMIUM MODULES PICTURES PAGE...
//
// Prints a row a page and view: its size with and without sound, the time to open it, errors in the console, requests
// that leave it, serious violations that axe finds, and what the Tab key reaches. Pictures of the first page go to
// PICTURES. Ends with 1 where one of them is not as it should be.
import {createRequire} from "node:module";
import {readFileSync} from "node:fs";
import {basename, join, resolve} from "node:path";
import {pathToFileURL} from "node:url";

const [chromium, modules, pictures, ...pages] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(resolve(modules), "package.json")));
const puppeteer = (await import(pathToFileURL(require.resolve("puppeteer-core")).href)).default;
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const LONGEST_MS = 2000, MOST_BYTES = 10e6; // without sound
const DESKTOP = {width: 1280, height: 900}, PHONE = {width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true};
const VIEWS = {desktop: [DESKTOP, "light"], dark: [DESKTOP, "dark"], phone: [PHONE, "light"], "phone-dark": [PHONE, "dark"]};
const INTERACTIVE = "a[href], button:not([disabled]), input, select, summary, audio, [tabindex='0']";

async function opened(browser, url, [viewport, scheme]) {
  const page = await browser.newPage();
  const faults = [], requests = [];
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{name: "prefers-color-scheme", value: scheme}]);
  page.on("console", message => { if (["error", "warn"].includes(message.type())) faults.push(message.text()); });
  page.on("pageerror", error => faults.push(String(error)));
  page.on("dialog", async dialog => { faults.push(`dialog: ${dialog.message()}`); await dialog.dismiss(); });
  page.on("request", request => { if (!/^(data:|blob:)/.test(request.url()) && request.url().split("#")[0] !== url) requests.push(request.url()); });
  const start = performance.now();
  await page.goto(url, {waitUntil: "load"});
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
  const ms = performance.now() - start, busy = 1000 * (await page.metrics()).TaskDuration;
  return {page, faults, requests, ms, busy};
}

// Everything that can be used must have had the focus once the Tab key has gone round.
async function reached(page) {
  const count = await page.evaluate(selector => {
    const seen = [...document.querySelectorAll(selector)].filter(one => one.checkVisibility({visibilityProperty: true}));
    seen.forEach((one, n) => { one.dataset.check = n; });
    document.activeElement?.blur();
    return seen.length;
  }, INTERACTIVE);
  const found = new Set();
  for (let n = 0; n < 12 * count && found.size < count; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => document.activeElement?.dataset.check);
    if (at !== undefined) found.add(at);
  }
  const missed = await page.evaluate(known => [...document.querySelectorAll("[data-check]")]
    .filter(one => !known.includes(one.dataset.check)).map(one => one.outerHTML.slice(0, 120)), [...found]);
  return {count, missed};
}

// What keys do to a chart and to the list; "" where all is well.
async function keyboard(page) {
  const wrong = [];
  if (await page.$(".plot")) {
    const first = ".chart .readout";
    const text = () => page.$eval(first, one => one.textContent);
    await page.focus(".plot");
    const before = await text();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("ArrowLeft");
    if (!(await text()).startsWith("step ") || (await text()) === before) wrong.push("arrow keys do not read a chart");
    await page.keyboard.press("+");
    if (!(await page.$eval("input[name=from]", one => one.value))) wrong.push("+ does not enlarge");
    await page.keyboard.press("Escape");
    if (await page.$eval("input[name=from]", one => one.value)) wrong.push("Escape does not show all");
  }
  if (await page.$("#list-controls")) {
    const told = () => page.$eval("#found", one => one.textContent);
    const all = await told();
    await page.focus("input[name=find]");
    await page.keyboard.type("no utterance has this");
    if (!(await told()).startsWith("0 of ")) wrong.push(`search finds what is not there: ${await told()}`);
    await page.keyboard.down("Control"); await page.keyboard.press("a"); await page.keyboard.up("Control");
    await page.keyboard.press("Backspace");
    if ((await told()) !== all) wrong.push("an empty search does not find all");
    const button = await page.$(".counts button");
    if (button) {
      await button.focus();
      await page.keyboard.press("Enter");
      if ((await told()) === all && (await page.$$("#list > li")).length > 1) wrong.push("an error does not choose its utterances");
      await page.keyboard.press("Enter");
      if ((await told()) !== all) wrong.push("and they stay chosen");
    }
  }
  return wrong;
}

// Whether sounds can be decoded, and a click on a drawing goes to where it is; "" where all is well.
async function sounds(page) {
  return page.evaluate(async () => {
    const all = [...document.querySelectorAll("audio")], wrong = [];
    for (const one of all) {
      for (let n = 0; n < 50 && !(one.duration > 0); n++) await new Promise(done => setTimeout(done, 20));
      if (!(one.duration > 0)) wrong.push(`no sound: ${one.getAttribute("aria-label")}`);
    }
    const drawing = document.querySelector(".example:has(audio) svg.drawing");
    if (drawing) {
      const box = drawing.getBoundingClientRect();
      drawing.dispatchEvent(new MouseEvent("click", {clientX: box.left + box.width / 2, clientY: box.top + 5, bubbles: true}));
      if (!all.some(one => one.currentTime > 0)) wrong.push("a click on a drawing does not move the sound");
    }
    return wrong;
  });
}

async function serious(page) {
  await page.evaluate(axe);
  const result = await page.evaluate(() => window.axe.run(document, {resultTypes: ["violations"]}));
  return result.violations.filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => `${one.id} (${one.nodes.length}): ${one.nodes[0].html.slice(0, 160)}`);
}

const browser = await puppeteer.launch({
  executablePath: chromium, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
});
const rows = [], complaints = [], mb = bytes => (bytes / 1e6).toFixed(1);
for (const [n, file] of pages.entries()) {
  const url = pathToFileURL(resolve(file)).href, name = basename(file);
  const text = readFileSync(file, "utf8"), whole = Buffer.byteLength(text);
  const silent = Buffer.byteLength(text.replaceAll(/data:audio[^"]*/g, ""));
  if (silent > MOST_BYTES) complaints.push(`${name}: ${mb(silent)} MB without sound, more than ${mb(MOST_BYTES)}`);
  for (const [view, settings] of Object.entries(VIEWS)) {
    const {page, faults, requests, ms, busy} = await opened(browser, url, settings);
    if (n === 0) {
      await page.screenshot({path: join(pictures, `${view}.png`)});
      for (const part of ["rates", "runs", "curves", "examples", "errors"]) {
        if (await page.$(`#${part}`) === null) continue;
        await page.$eval(`#${part}`, one => one.scrollIntoView());
        await page.evaluate(() => new Promise(done => setTimeout(done, 200)));
        await page.screenshot({path: join(pictures, `${view}-${part}.png`)});
      }
    }
    if (n === 0 && view === "desktop" && await page.$(".example")) {
      await page.setViewport({width: 980, height: 1300});
      await page.$eval(".example", one => { one.style.contentVisibility = "visible"; one.scrollIntoView(); });
      await page.evaluate(() => new Promise(done => setTimeout(done, 500)));
      await (await page.$(".example")).screenshot({path: join(pictures, "example.png")});
      await page.setViewport(settings[0]);
    }
    const violations = await serious(page);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth + 1);
    const keys = view === "desktop" ? await reached(page) : {count: 0, missed: []};
    const wrong = view === "desktop" ? [...await keyboard(page), ...await sounds(page)] : [];
    rows.push({page: name, view, "MB": mb(whole), "without sound": mb(silent), "opens, ms": Math.round(ms), "busy, ms": Math.round(busy), "console errors": faults.length, "requests elsewhere": requests.length,
      "axe, serious": violations.length, "by Tab": view === "desktop" ? `${keys.count - keys.missed.length} of ${keys.count}` : "", "too wide": wide});
    const all = [...faults, ...requests, ...violations, ...keys.missed.map(one => `not reached: ${one}`), ...wrong];
    if (ms > LONGEST_MS) all.push(`opens in ${Math.round(ms)} ms, more than ${LONGEST_MS}`);
    if (wide) all.push("is wider than the screen");
    complaints.push(...all.map(one => `${name}, ${view}: ${one}`));
    await page.close();
  }
}
await browser.close();
console.table(rows);
for (const one of complaints) console.log(one);
process.exit(complaints.length ? 1 : 0);
