// traw.mjs - one raw Teleportal connection: sends what the test says, acknowledges nothing by itself,
// and hands out decoded frames in the order they came.

import * as Y from 'yjs';
import { Raw } from './raw.mjs';
import { decode, encode, envelope, messageId } from './teleportal-client.mjs';

export class TRaw {
    static async open(url, options) {
        const traw = new TRaw();
        traw.raw = await Raw.open(url, options);
        return traw;
    }

    /** Sends a message or the bytes of one; returns its id. */
    say(message) {
        const frame = message instanceof Uint8Array ? message : encode(message);
        this.raw.send(frame);
        return messageId(frame);
    }

    async next(ms) {
        return decode(await this.raw.next(ms));
    }

    /** What comes up to and including the ack or NACK of `id`. */
    async answers(id, ms = 5000) {
        const came = [];
        for (;;) {
            const message = await this.next(ms);
            came.push(message);
            if (message.type === 'ack' && message.messageId === id) return came;
        }
    }

    /** Says `message` and returns its answers, as "kind" words and as frames. */
    async ask(message, ms) {
        const frames = await this.answers(this.say(message), ms);
        return { frames, words: frames.map(word), last: frames.at(-1) };
    }

    /** Everything that has been said to us so far has been received: a round of ping and pong. */
    async settle(ms = 5000) {
        const came = [];
        this.raw.send(Buffer.from('YJSping'));
        for (;;) {
            const message = await this.next(ms);
            if (message.type === 'pong') return came;
            came.push(message);
        }
    }

    cut() {
        this.raw.cut();
    }

    close(ms) {
        return this.raw.close(ms);
    }
}

/** A frame in one word: "sync-step-2", "ack", "nack:text", "retry", "join 7". */
export function word(message) {
    if (message.type === 'ack') return message.error !== undefined ? `nack:${message.error}` : message.retryAfter !== undefined ? 'retry' : 'ack';
    if (message.type === 'presence') return `${message.kind} ${message.awarenessId}`;
    if (message.type === 'rpc') return `rpc ${message.status ?? 'ok'}`;
    return message.kind ?? message.type;
}

export const syncStep1 = (document, vector = new Uint8Array([0]), extra = {}) => ({ type: 'doc', kind: 'sync-step-1', document, vector, ...extra });
export const updateOf = (document, body, extra = {}) => ({ type: 'doc', kind: 'update', document, body, ...extra });
export const announce = (document, awarenessId) => ({ type: 'presence', kind: 'announce', document, awarenessId });
export const unannounce = (document, awarenessId) => ({ type: 'presence', kind: 'unannounce', document, awarenessId });

/** The envelope of an update that appends `text` to the shared text of `doc`. */
export function writing(text, doc = new Y.Doc()) {
    let made;
    doc.once('updateV2', update => (made = update));
    const shared = doc.getText('text');
    shared.insert(shared.length, text);
    return envelope(made);
}
