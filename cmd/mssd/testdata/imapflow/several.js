// The session of TestImapflowSeveral: a person with two BALs. It says what it sees, a JSON value a line: ["step", value].
'use strict';
const { ImapFlow } = require('imapflow');
const fs = require('fs');

const [port, user, ca, other] = process.argv.slice(2);
const say = (step, value) => process.stdout.write(JSON.stringify([step, value]) + '\n');

async function main() {
    const client = new ImapFlow({
        host: 'localhost', port: Number(port), secure: true, logger: false, qresync: true,
        tls: { ca: fs.readFileSync(ca) },
        auth: { user, accessToken: process.env.TOKEN },
    });
    client.on('error', err => say('error', String(err)));
    await client.connect();
    const folders = await client.list({ statusQuery: { messages: true } });
    say('special', folders.filter(f => f.specialUse).map(f => f.path));
    say('mail', folders.filter(f => f.status && f.status.messages).map(f => [f.path, f.status.messages]));
    const read = async path => {
        await client.mailboxOpen(path);
        const subjects = [];
        for await (const m of client.fetch('1:*', { uid: true, envelope: true, source: true })) {
            subjects.push([m.envelope.subject, m.source.length > 0]);
        }
        return subjects;
    };
    say('own', await read('INBOX'));
    say('other', await read(other + '/INBOX'));
    const moved = await client.messageMove('1', 'Archive');
    say('moved', [moved.destination, moved.uidMap.size]);
    const own = await client.append(other + '/Sent', Buffer.from('Subject: envoi\r\n\r\nBonjour\r\n'), ['\\Seen']);
    say('appended', own.destination);
    await client.mailboxOpen('INBOX');
    say('ready', true);
    await new Promise(resolve => process.stdin.once('data', resolve));
    say('left', (await client.list()).filter(f => f.path.startsWith(other)).length);
    say('after', await read('INBOX'));
    await client.logout();
    say('end', true);
    process.exit(0);
}

main().catch(err => {
    say('error', [String(err), err.responseText || '']);
    process.exit(1);
});
