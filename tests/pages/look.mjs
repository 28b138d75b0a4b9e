// Goes through the enrolment page as people do, and looks at every step. See `look`.
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const [binary, config, out, messages] = process.argv.slice(2);
const axe = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const faults = [];

const realmsync = (...words) =>
    execFileSync(binary, ['-c', config, '--json', ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
        .trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
const code = (key, seconds = 0) =>
    execFileSync('oathtool', ['--totp', '--base32', '--now', `now ${seconds >= 0 ? '+' : '-'}${Math.abs(seconds)} seconds`, key], { encoding: 'utf8' }).trim();

// What the receiver of messages is told.
const told = [];
createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    told.push(JSON.parse(body));
    response.writeHead(204).end();
}).listen(Number(messages), '127.0.0.1');
const freezeLink = async () => {
    for (let n = 0; n < 300; n++) {
        const link = told.findLast((message) => message.data.freeze_url)?.data.freeze_url;
        if (link) return link;
        await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error('no notice came');
};

realmsync('realms', 'create', 'partners', '--name=Partner & firms', '--region=sk', '--two-factor=app-otp');
realmsync('users', 'add', '--realm=partners', 'jan.novak', '--phone=0905 123 456', '--display-name=Ján Novák');
const link = (...more) => realmsync('send', 'jan.novak', ...more)[0].url;

const browser = await puppeteer.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--force-color-profile=srgb'],
});
const PHONE = 'Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36';

async function open(width, scheme, language) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const mobile = width < 600;
    await page.setJavaScriptEnabled(false);
    await page.setViewport({ width, height: mobile ? 844 : 900, deviceScaleFactor: 2, isMobile: mobile, hasTouch: mobile });
    if (mobile) await page.setUserAgent(PHONE);
    await page.setExtraHTTPHeaders({ 'accept-language': language });
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
    page.on('console', (message) => {
        // The status of an expected page is no fault of it.
        if (message.type() === 'error' && !/status of (410|404)/.test(message.text())) faults.push(`${name(page)}: console: ${message.text()}`);
    });
    page.on('pageerror', (error) => faults.push(`${name(page)}: ${error}`));
    page.on('request', (request) => {
        const url = new URL(request.url());
        if (url.hostname !== '127.0.0.1' && url.protocol !== 'data:') faults.push(`${name(page)}: asks ${url.origin}`);
    });
    page.at = `${width}-${scheme}-${language}`;
    return page;
}

const name = (page) => page.at;

/// A screenshot, axe's word, and whether anything is wider than the window.
async function look(page, step) {
    const file = join(out, `${step}-${page.at}.png`);
    await page.screenshot({ path: file, fullPage: true });
    // axe is a script, and waits for itself; the page has none to be let run by that.
    await page.setJavaScriptEnabled(true);
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    for (const violation of found.violations) {
        faults.push(`${step} ${page.at}: axe: ${violation.id}: ${violation.help}: ${violation.nodes.map((n) => n.html).join(' | ').slice(0, 300)}`);
    }
    if (found.passes.length < 10) faults.push(`${step} ${page.at}: axe looked at ${found.passes.length} rules only`);
    const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    if (wide > window) faults.push(`${step} ${page.at}: ${wide} px wide in a window of ${window}`);
    const small = await page.evaluate(() => [...document.querySelectorAll('button, a, summary, input:not([type=hidden])')]
        .filter((e) => e.checkVisibility() && (e.getBoundingClientRect().height < 24)).map((e) => e.outerHTML.slice(0, 120)));
    for (const html of small) faults.push(`${step} ${page.at}: too small to touch: ${html}`);
    await page.setJavaScriptEnabled(false);
    return file;
}

const press = (page, selector) => Promise.all([page.waitForNavigation(), page.click(selector)]);
const key = async (page) => (await page.content()).match(/translate="no">([A-Z2-7 ]{39})</)[1].replaceAll(' ', '');

/// All details open, as somebody who needs help has them.
const unfold = async (page) => {
    for (const summary of await page.$$('summary')) await summary.click();
};

async function through(width, scheme, language, proved) {
    const page = await open(width, scheme, language);
    await page.goto(link(...(proved ? [] : ['--lost'])));
    await look(page, proved ? '1-start-proof' : '1-start');
    if (proved) {
        await page.type('#proof', proved);
    }
    await press(page, 'button[value=begin]');
    const picture = await look(page, '2-secret');
    const secret = await key(page);
    if (width >= 600) {
        const read = execFileSync('zbarimg', ['--quiet', '--raw', picture], { encoding: 'utf8' }).trim();
        if (!read.startsWith('otpauth://totp/Partner%20%26%20firms:jan.novak') || !read.includes(`secret=${secret}&`)) faults.push(`zbarimg reads ${read}`);
    }
    await unfold(page);
    await look(page, '3-secret-unfolded');
    if (width < 600) {
        const read = execFileSync('zbarimg', ['--quiet', '--raw', join(out, `3-secret-unfolded-${page.at}.png`)], { encoding: 'utf8' }).trim();
        if (!read.includes(`secret=${secret}&`)) faults.push(`zbarimg reads ${read}`);
    }
    const near = [...Array(31).keys()].map((n) => code(secret, (n - 15) * 30));
    const wrong = ['000000', '111111', '222222'].find((candidate) => !near.includes(candidate));
    await page.type('#code', wrong);
    await press(page, 'form button');
    await look(page, '4-wrong');
    await page.type('#code', code(secret));
    await press(page, 'form button');
    await look(page, '5-codes');
    const codes = [...(await page.content()).matchAll(/<li><code>([A-Z-]{19})</g)].map((m) => m[1]);
    if (codes.length !== 10) faults.push(`${codes.length} recovery codes`);
    await page.click('#kept');
    await press(page, 'form button');
    await look(page, '6-done');
    await page.goto(page.url().split('?')[0]);
    await look(page, '7-gone');
    await page.browserContext().close();
    return codes;
}

let codes = [];
for (const [width, scheme, language] of [[390, 'light', 'en'], [390, 'dark', 'de'], [1280, 'light', 'sk'], [1280, 'dark', 'cs']]) {
    codes = await through(width, scheme, language, codes[0]);
}
for (const [language, scheme] of [['en', 'dark'], ['de', 'light'], ['sk', 'dark'], ['cs', 'light']]) {
    codes = await through(390, scheme, language, codes[1]);
}
// What somebody sees who has not set up the application that they are told of, in each language.
for (const [width, scheme, language] of [[390, 'light', 'en'], [390, 'dark', 'de'], [1280, 'light', 'sk'], [1280, 'dark', 'cs']]) {
    const page = await open(width, scheme, language);
    const url = await freezeLink();
    await page.goto(url);
    await look(page, '8-freeze');
    await press(page, 'form button');
    await look(page, '9-frozen');
    await page.goto(`${new URL(url).origin}/freeze/gone`);
    await look(page, '10-freeze-gone');
    await page.browserContext().close();
}
await browser.close();
writeFileSync(join(out, 'faults.txt'), faults.join('\n'));
for (const fault of faults) console.error(fault);
console.log(`${faults.length} faults; screenshots in ${out}`);
process.exit(faults.length ? 1 : 0);
