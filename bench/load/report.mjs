// report.mjs - one run as one page: HTML with inline SVG, no script, nothing from the network.

const COLORS = { teleportald: '#0a7', floor: '#888', 'y-websocket': '#c50', hocuspocus: '#638', fdatasync: '#069' };
const color = server => COLORS[server] ?? '#333';
const escape = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);
const short = value =>
    value >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M` : value >= 1e3 ? `${+(value / 1e3).toPrecision(3)}k` : `${+value.toPrecision(3)}`;

/** Latency over quantile: the axis below is the number of nines, both are logarithmic. */
function curves(title, lines, field) {
    const drawn = lines.filter(line => line[field]?.length > 1);
    if (drawn.length === 0) return '';
    const values = drawn.flatMap(line => line[field].map(([, us]) => Math.max(us, 1)));
    const low = Math.floor(Math.log10(Math.min(...values))), high = Math.ceil(Math.log10(Math.max(...values)) + 1e-9);
    const nines = q => -Math.log10(1 - q);
    const right = Math.max(3, ...drawn.map(line => nines(line[field].at(-1)[0])));
    const x = q => 60 + (nines(q) / right) * 400;
    const y = us => 220 - ((Math.log10(Math.max(us, 1)) - low) / Math.max(high - low, 1)) * 200;
    let svg = '';
    for (let power = low; power <= high; power++)
        svg += `<path class="grid" d="M60 ${y(10 ** power)}H460"/><text x="55" y="${y(10 ** power) + 4}" text-anchor="end">${short(10 ** power)}</text>`;
    for (const q of [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999])
        if (nines(q) <= right) svg += `<path class="grid" d="M${x(q)} 20V220"/><text x="${x(q)}" y="235" text-anchor="middle">${q * 100}</text>`;
    drawn.forEach((line, i) => {
        const points = line[field].map(([q, us]) => `${x(q).toFixed(1)},${y(us).toFixed(1)}`).join(' ');
        svg += `<polyline points="${points}" stroke="${color(line.server)}"/><text x="66" y="${34 + 14 * i}" fill="${color(line.server)}">${escape(line.server)}</text>`;
    });
    return `<figure><figcaption>${escape(title)}: latency in us by percentile</figcaption><svg viewBox="0 0 480 245">${svg}</svg></figure>`;
}

function bars(title, entries) {
    const drawn = entries.filter(([, value]) => value > 0);
    if (drawn.length === 0) return '';
    const most = Math.max(...drawn.map(([, value]) => value));
    const svg = drawn.map(([label, value, server], i) =>
        `<text x="0" y="${14 + 20 * i}">${escape(label)}</text><rect x="150" y="${3 + 20 * i}" height="14" width="${(value / most) * 250}" fill="${color(server)}"/>` +
        `<text x="${155 + (value / most) * 250}" y="${14 + 20 * i}">${short(value)}</text>`).join('');
    return `<figure><figcaption>${escape(title)}</figcaption><svg viewBox="0 0 480 ${20 * drawn.length + 6}">${svg}</svg></figure>`;
}

const FIGURES = ['deliveries_per_s', 'syncs_per_s', 'bytes_per_s', 'cpu_us_per_delivery', 'cpu_us_per_sync', 'p50_us', 'p99_us',
    'p999_us', 'ack_p50_us', 'ack_p99_us', 'seconds', 'rss', 'rss_peak', 'bytes_each', 'syscalls_per_delivery', 'enters_per_turn',
    'switches_per_delivery', 'generator_busy'];

export function page(lines) {
    const names = [...new Set(lines.map(line => line.row))];
    const of = name => lines.filter(line => line.row === name);
    const first = lines[0];
    const facts = first
        ? `commit ${escape(first.commit)}, ${escape(first.time)}; ${escape(first.machine.cpu)}, ${first.machine.cores} cores, Linux ${escape(first.machine.kernel)}`
        : 'nothing was measured';
    const used = FIGURES.filter(name => lines.some(line => line[name] !== undefined));
    const table = lines.map(line => `<tr><td>${escape(line.row)}<td>${escape(line.server)}<td>${escape(line.dialect ?? '')}${used.map(name => `<td>${line[name] === undefined ? '' : short(line[name])}`).join('')}`).join('\n');
    const cost = names.map(name => bars(`${name}: server CPU, us per ${of(name)[0].cpu_us_per_delivery !== undefined ? 'delivery' : 'sync'}`,
        of(name).map(line => [line.server, line.cpu_us_per_delivery ?? line.cpu_us_per_sync, line.server]))).join('\n');
    const cores = bars('throughput by cores, deliveries per second (the generator shares them)',
        lines.filter(line => /^cores-/.test(line.row)).map(line => [line.row, line.deliveries_per_s, line.server]));
    return `<!doctype html><meta charset="utf-8"><title>teleportald under load</title>
<style>
body { font: 14px sans-serif; margin: 2em; color: #222 } table { border-collapse: collapse; font-size: 12px }
td, th { border: 1px solid #ccc; padding: 2px 6px; text-align: right } td:nth-child(-n+3) { text-align: left }
figure { display: inline-block; width: 480px; margin: 1em; vertical-align: top } svg text { font-size: 11px }
polyline { fill: none; stroke-width: 1.5 } .grid { stroke: #ddd }
</style>
<h1>teleportald under load</h1><p>${facts}. Every figure is of a run in which all that was received was checked.</p>
<h2>Latency</h2>${names.map(name => curves(name, of(name), 'curve') + curves(`${name}, acknowledgements`, of(name), 'ack_curve')).join('\n')}
<h2>Cost</h2>${cost}
<h2>Cores</h2>${cores}
<h2>All figures</h2><table><tr><th>row<th>server<th>dialect${used.map(name => `<th>${name.replaceAll('_', ' ')}`).join('')}
${table}</table>
`;
}
