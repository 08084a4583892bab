import java.io.InputStream;
import java.io.ByteArrayInputStream;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.HexFormat;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** usage: JavaClient.java PROXY HTTPS-ORIGIN HTTP-ORIGIN CA-FILE SEED   (see common.py for the output; `-` is no proxy). */
public class JavaClient {
    private static HttpClient client;

    public static void main(String[] args) throws Exception {
        URI proxy = URI.create(args[0]);
        String https = args[1];
        String http = args[2];
        String seed = args[4];
        client =
            HttpClient.newBuilder()
                .proxy(
                    args[0].equals("-")
                        ? HttpClient.Builder.NO_PROXY
                        : ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())))
                .sslContext(trusting(Path.of(args[3])))
                .connectTimeout(Duration.ofSeconds(60))
                .build();
        byte[] upload = new byte[1 << 20];
        for (int i = 0; i < upload.length; i++) {
            upload[i] = (byte) i;
        }

        download("https", https + "/bytes/" + seed + "/1000003");
        download("http", http + "/bytes/" + seed + "/1000003");
        download("chunked", http + "/chunked/" + seed + "/1000003");
        download("until-close", http + "/until-close/" + seed + "/1000003");
        send("upload-https", https + "/digest", BodyPublishers.ofByteArray(upload));
        send("upload-http", http + "/digest", BodyPublishers.ofByteArray(upload));
        send("upload-https-chunked", https + "/digest", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(upload)));
        send("upload-http-chunked", http + "/digest", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(upload)));
        HttpResponse<String> events = client.send(get(http + "/events/50"), BodyHandlers.ofString());
        System.out.println("events " + events.body().lines().filter(line -> line.startsWith("data:")).count());
    }

    private static void download(String what, String url) throws Exception {
        HttpResponse<byte[]> answer = client.send(get(url), BodyHandlers.ofByteArray());
        check(what, answer.statusCode());
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(answer.body());
        System.out.println(what + " " + HexFormat.of().formatHex(digest));
    }

    private static void send(String what, String url, BodyPublisher body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(60)).POST(body).build();
        HttpResponse<String> answer = client.send(request, BodyHandlers.ofString());
        check(what, answer.statusCode());
        System.out.println(what + " " + answer.body());
    }

    private static HttpRequest get(String url) {
        return HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(60)).build();
    }

    private static void check(String what, int status) {
        if (status != 200) {
            throw new IllegalStateException(what + ": " + status);
        }
    }

    private static SSLContext trusting(Path authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream in = Files.newInputStream(authority)) {
            store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
