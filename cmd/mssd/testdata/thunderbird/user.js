// The profile of TestThunderbird: one account, nothing that asks or tells anybody else. %[1]s is the user, %[2]s the port.
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.identity.id1.useremail", "%[1]s");
user_pref("mail.server.server1.type", "imap");
user_pref("mail.server.server1.hostname", "localhost");
user_pref("mail.server.server1.port", %[2]s);
user_pref("mail.server.server1.socketType", 3); // TLS from the start
user_pref("mail.server.server1.authMethod", 3); // a password
user_pref("mail.server.server1.userName", "%[1]s");
user_pref("mail.server.server1.name", "officine");
user_pref("mail.server.server1.use_idle", true);
user_pref("mail.server.server1.offline_download", true);
user_pref("mail.server.server1.check_new_mail", false); // the script opens it
user_pref("mail.server.server1.login_at_startup", false);

user_pref("browser.dom.window.dump.enabled", true); // what the script says goes to the standard output
user_pref("app.update.enabled", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("app.normandy.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("datareporting.healthreport.uploadEnabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.blocklist.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("mail.inappnotifications.enabled", false);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.rights.version", 1);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mailnews.start_page.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.proxy.type", 1); // HTTP leads nowhere; IMAP takes no such proxy
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
user_pref("security.OCSP.enabled", 0);
user_pref("toolkit.telemetry.enabled", false);
