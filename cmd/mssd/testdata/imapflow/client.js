// The session of TestImapflow. It says what it sees, a JSON value a line: ["step", value].
'use strict';
const { ImapFlow } = require('imapflow');
const crypto = require('crypto');
const fs = require('fs');

const [port, user, ca] = process.argv.slice(2);
const say = (step, value) => process.stdout.write(JSON.stringify([step, value]) + '\n');

async function main() {
    const client = new ImapFlow({
        host: 'localhost', port: Number(port), secure: true, logger: false, qresync: true,
        tls: { ca: fs.readFileSync(ca) },
        auth: { user, pass: process.env.PASSWORD },
    });
    client.on('error', err => say('error', String(err)));
    await client.connect();
    say('capabilities', [...client.capabilities.keys()]);
    say('compressed', client._inflate !== undefined || client._deflate !== undefined);

    say('folders', (await client.list()).map(f => [f.path, f.specialUse || '']));
    const inbox = await client.mailboxOpen('INBOX');
    const before = inbox.highestModseq; // the client moves it on
    say('inbox', [inbox.exists, String(inbox.highestModseq) !== 'undefined']);

    const seen = [];
    const threads = new Set();
    for await (const m of client.fetch('1:*', { uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, threadId: true })) {
        seen.push([m.uid, m.envelope.subject, m.envelope.from[0].address, m.bodyStructure.type, m.size, m.flags.has('\\Seen'), m.internalDate instanceof Date]);
        threads.add(m.threadId);
    }
    say('messages', seen);
    say('threads', [threads.size, [...threads].every(name => /^T/.test(name))]);

    const { content } = await client.download(String(seen[0][0]), undefined, { uid: true });
    const hash = crypto.createHash('sha256');
    let octets = 0;
    for await (const chunk of content) {
        hash.update(chunk);
        octets += chunk.length;
    }
    say('body', [octets, hash.digest('hex')]);

    say('flagged', await client.messageFlagsAdd(String(seen[1][0]), ['\\Seen', '$Taken'], { uid: true }));
    say('found', await client.search({ subject: 'Ordonnance 1' }, { uid: true }));
    say('changed', await (async () => {
        const list = [];
        for await (const m of client.fetch('1:*', { uid: true, flags: true }, { changedSince: before })) {
            list.push(m.uid);
        }
        return list;
    })());
    const own = await client.append('Sent', Buffer.from('Subject: envoy\u00e9\r\nMIME-Version: 1.0\r\n\r\nBonjour\r\n'), ['\\Seen'], new Date(2026, 1, 7));
    say('appended', [own.destination, own.uid]);
    const moved = await client.messageMove(String(seen[0][0]), 'Archive', { uid: true });
    say('moved', [moved.destination, [...moved.uidMap.values()].length]);
    const status = await client.status('INBOX', { messages: true, unseen: true, uidNext: true });
    say('status', [status.messages, status.unseen]);

    const came = new Promise(resolve => client.on('exists', e => resolve([e.prevCount, e.count])));
    client.idle(); // until the next command
    say('waiting', true);
    say('came', await came);
    await client.logout();
    say('end', true);
}

main().catch(err => {
    say('error', [String(err), err.responseText || '']);
    process.exit(1);
});
