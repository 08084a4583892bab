import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.HexFormat;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** usage: CaptureClient.java CA-FILE SEED ORIGIN...   (see capture_client.py) */
public class CaptureClient {
    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream ca = Files.newInputStream(Path.of(args[0]))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(ca));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        HttpClient client =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context).build();
        byte[] upload = new byte[1 << 20];
        for (int i = 0; i < upload.length; i++) {
            upload[i] = (byte) i;
        }
        for (int i = 2; i < args.length; i++) {
            URI get = URI.create(args[i] + "/bytes/" + args[1] + "/1000003");
            byte[] bytes = client.send(HttpRequest.newBuilder(get).build(), BodyHandlers.ofByteArray()).body();
            System.out.println("get " + HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes)));
            HttpRequest post =
                HttpRequest.newBuilder(URI.create(args[i] + "/digest"))
                    .POST(BodyPublishers.ofByteArray(upload))
                    .build();
            System.out.println("post " + client.send(post, BodyHandlers.ofString()).body().strip());
        }
    }
}
