import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Clients of Java in one program: {@code Clients CLIENT PORT PART PREFIX [OPTION...]}. */
final class Clients {
    private static final Map<String, Map<String, Story.Part>> CLIENTS = Map.of(
            "jedis", JedisParts.PARTS,
            "lettuce", LettuceParts.PARTS,
            "redisson", RedissonParts.PARTS,
            "spymemcached", SpymemcachedParts.PARTS,
            "xmemcached", XmemcachedParts.PARTS);

    private Clients() {}

    public static void main(String[] words) {
        List<String> options = Arrays.asList(words).subList(4, words.length);
        int status = 1;
        try {
            CLIENTS.get(words[0]).get(words[2]).run(new Story(Integer.parseInt(words[1]), words[3], options));
            status = 0;
        } catch (Exception failure) {
            failure.printStackTrace(System.out);
        }
        System.exit(status); // whatever threads the libraries still have
    }
}
