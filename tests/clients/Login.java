import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.util.Properties;

/** Logs in once with pgjdbc: Login URL [PROPERTY=VALUE...]. Prints one JSON line: {"ok", "error"}. */
public class Login {
    public static void main(String[] args) {
        Properties properties = new Properties();
        for (int i = 1; i < args.length; i++) {
            int end = args[i].indexOf('=');
            properties.setProperty(args[i].substring(0, end), args[i].substring(end + 1));
        }
        try (Connection connection = DriverManager.getConnection(args[0], properties);
                ResultSet rows = connection.createStatement().executeQuery("select 1")) {
            System.out.println("{\"ok\": " + (rows.next() && rows.getInt(1) == 1) + ", \"error\": null}");
        } catch (Throwable error) { // a driver's crash is an answer too
            System.out.println("{\"ok\": false, \"error\": " + quoted(error.toString()) + "}");
        }
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\' || c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
