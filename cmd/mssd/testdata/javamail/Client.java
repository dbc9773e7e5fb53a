// The session of TestJavaMail. It says what it sees, a JSON value a line: ["step", value].
import com.sun.mail.imap.*;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.*;
import javax.mail.*;
import javax.mail.event.*;
import javax.mail.internet.*;
import javax.mail.search.*;
import javax.net.ssl.*;

public class Client {
    static void say(String step, Object value) {
        System.out.println("[" + json(step) + "," + json(value) + "]");
    }

    static String json(Object v) {
        if (v instanceof Number || v instanceof Boolean) return v.toString();
        if (v instanceof Object[]) v = Arrays.asList((Object[]) v);
        if (v instanceof List) {
            StringJoiner j = new StringJoiner(",", "[", "]");
            for (Object o : (List<?>) v) j.add(json(o));
            return j.toString();
        }
        StringBuilder b = new StringBuilder("\"");
        for (char c : v.toString().toCharArray()) {
            if (c < ' ' || c > '~' || c == '"' || c == '\\') b.append(String.format("\\u%04x", (int) c));
            else b.append(c);
        }
        return b.append('"').toString();
    }

    static SSLSocketFactory trusting(String anchors) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        int n = 0;
        try (FileInputStream in = new FileInputStream(anchors)) {
            for (java.security.cert.Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(in))
                store.setCertificateEntry("anchor" + n++, c);
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        return tls.getSocketFactory();
    }

    public static void main(String[] args) throws Exception {
        try {
            run(Integer.parseInt(args[0]), args[1], args[2], System.getenv("PASSWORD"), Integer.parseInt(args[3]), args[4]);
        } catch (Exception e) {
            say("error", e.toString());
            System.exit(1);
        }
        System.exit(0);
    }

    static void run(int port, String user, String anchors, String password, int submission, String to) throws Exception {
        Properties p = new Properties();
        p.put("mail.imaps.ssl.socketFactory", trusting(anchors));
        p.put("mail.imaps.ssl.checkserveridentity", "true");
        p.put("mail.imaps.compress.enable", "true");
        Session session = Session.getInstance(p);
        IMAPStore store = (IMAPStore) session.getStore("imaps");
        store.connect("localhost", port, user, password);

        List<Object> folders = new ArrayList<>();
        for (Folder f : store.getDefaultFolder().list("*")) {
            List<String> attributes = new ArrayList<>(Arrays.asList(((IMAPFolder) f).getAttributes()));
            attributes.removeIf(a -> a.endsWith("Children"));
            folders.add(List.of(f.getFullName(), String.join(" ", attributes)));
        }
        say("folders", folders);

        IMAPFolder inbox = (IMAPFolder) store.getFolder("INBOX");
        inbox.open(Folder.READ_WRITE);
        Message[] mails = inbox.getMessages();
        FetchProfile what = new FetchProfile();
        what.add(FetchProfile.Item.ENVELOPE);
        what.add(FetchProfile.Item.FLAGS);
        what.add(FetchProfile.Item.CONTENT_INFO);
        what.add(UIDFolder.FetchProfileItem.UID);
        what.add(IMAPFolder.FetchProfileItem.HEADERS);
        inbox.fetch(mails, what);
        List<Object> seen = new ArrayList<>();
        for (Message m : mails)
            seen.add(List.of(inbox.getUID(m), m.getSubject(), ((InternetAddress) m.getFrom()[0]).getAddress(), m.isMimeType("text/plain"), m.isSet(Flags.Flag.SEEN)));
        say("messages", seen);

        MessageDigest sum = MessageDigest.getInstance("SHA-256");
        ((IMAPMessage) mails[0]).setPeek(true);
        mails[0].writeTo(new java.io.OutputStream() {
            public void write(int b) { sum.update((byte) b); }
            public void write(byte[] b, int off, int n) { sum.update(b, off, n); }
        });
        say("body", HexFormat.of().formatHex(sum.digest()));

        Flags taken = new Flags("$Taken");
        taken.add(Flags.Flag.SEEN);
        mails[1].setFlags(taken, true);
        say("found", inbox.search(new SubjectTerm("Ordonnance 1")).length);
        // With accents: after ENABLE UTF8=ACCEPT this client sends them in ISO-8859-1.
        say("accents", inbox.search(new OrTerm(new BodyTerm("voil\u00e0"), new FromStringTerm("cam\u00eflle")) ).length);
        say("sorted", inbox.getUID(inbox.getSortedMessages(new SortTerm[] {SortTerm.REVERSE, SortTerm.SUBJECT})[0]));
        say("rights", inbox.myRights().contains(Rights.Right.READ));
        say("quota", store.getQuota("INBOX").length);

        Folder made = store.getFolder("\u00c9t\u00e9 & <1>/Patients");
        say("made", made.create(Folder.HOLDS_MESSAGES));
        MimeMessage own = new MimeMessage(session);
        own.setFrom(new InternetAddress(user, "\u00c9lodie"));
        own.setRecipients(Message.RecipientType.TO, user);
        own.setSubject("R\u00e9ponse");
        own.setText("Voil\u00e0.");
        own.saveChanges();
        AppendUID[] stored = ((IMAPFolder) made).appendUIDMessages(new Message[] {own, own});
        say("appended", List.of(stored[0].uid, stored[1].uid));
        inbox.copyMessages(new Message[] {mails[0]}, made);
        inbox.moveMessages(new Message[] {mails[0]}, store.getFolder("Archive"));
        made.open(Folder.READ_WRITE);
        List<Object> subjects = new ArrayList<>();
        for (Message m : made.getMessages()) subjects.add(m.getSubject());
        say("made holds", subjects);
        made.setFlags(1, 2, new Flags(Flags.Flag.DELETED), true);
        say("expunged", made.expunge().length);
        made.close(false);
        say("renamed", made.renameTo(store.getFolder("Patients")));
        say("deleted", store.getFolder("Patients").delete(false));

        inbox.addMessageCountListener(new MessageCountAdapter() {
            public void messagesAdded(MessageCountEvent e) {
                try {
                    say("came", e.getMessages()[0].getSubject());
                } catch (MessagingException x) {
                    say("error", x.toString());
                }
            }
        });
        p.put("mail.smtp.ssl.socketFactory", trusting(anchors));
        p.put("mail.smtp.ssl.checkserveridentity", "true");
        p.put("mail.smtp.starttls.required", "true");
        Transport transport = session.getTransport("smtp");
        transport.connect("localhost", submission, user, password);
        transport.sendMessage(own, new Address[] {new InternetAddress(to)});
        own.setFrom(new InternetAddress(to));
        own.saveChanges();
        try {
            transport.sendMessage(own, new Address[] {new InternetAddress(to)});
            say("forged", "sent");
        } catch (MessagingException e) {
            say("forged", e.toString().contains("550 5.7.1"));
        }
        transport.close();

        say("waiting", true);
        inbox.idle(true);
        inbox.close(true);
        store.close();
        say("end", true);
    }
}
