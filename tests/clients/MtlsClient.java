import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Requests with a client certificate from a PKCS#12 key store.
 *
 * <p>usage: MtlsClient.java URL CA-FILE PASSWORD KEY-STORE... A KEY-STORE of `-` is none. For each a line `STATUS BODY`, or
 * `refused WHY`.
 */
public class MtlsClient {
    public static void main(String[] args) throws Exception {
        for (int i = 3; i < args.length; i++) {
            SSLContext tls = context(Path.of(args[1]), args[2].toCharArray(), args[i]);
            HttpClient client = HttpClient.newBuilder().sslContext(tls).connectTimeout(Duration.ofSeconds(15)).build();
            HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).timeout(Duration.ofSeconds(15)).build();
            try {
                HttpResponse<String> answer = client.send(request, BodyHandlers.ofString());
                System.out.println(answer.statusCode() + " " + answer.body().replaceAll("\\s+", " "));
            } catch (java.io.IOException error) {
                StringBuilder said = new StringBuilder();
                for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                    said.append(cause).append(" | ");
                }
                System.out.println("refused " + said.toString().replaceAll("\\s+", " "));
            }
        }
    }

    private static SSLContext context(Path authority, char[] password, String keyStore) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null);
        try (InputStream in = Files.newInputStream(authority)) {
            trusted.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyManager[] keys = null;
        if (!keyStore.equals("-")) {
            KeyStore own = KeyStore.getInstance("PKCS12");
            try (InputStream in = Files.newInputStream(Path.of(keyStore))) {
                own.load(in, password);
            }
            KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            factory.init(own, password);
            keys = factory.getKeyManagers();
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust.getTrustManagers(), null);
        return context;
    }
}
