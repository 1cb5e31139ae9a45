// What Apache Kafka itself reads and writes, for the test wire_oracle.rs: kafka-clients' own message classes make random
// messages, and say how each looks in every version.
//
// Run by `java -cp 'LIBS/*' WireOracle.java SEED COUNT`. Each line of input names an API and versions: `KEY FIRST LAST`.
// Each line of output is one message: KEY request|response VERSION BYTES JSON W=BYTES..., where W runs through the
// versions, and BYTES is hexadecimal, or `-` where Kafka refuses to write that message in that version.

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.ArrayOf;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.NullableSchema;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

public class WireOracle {
    private static Random random;

    public static void main(String[] arguments) throws Exception {
        random = new Random(Long.parseLong(arguments[0]));
        int count = Integer.parseInt(arguments[1]);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        PrintStream output = new PrintStream(System.out, false, "UTF-8");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            short first = Short.parseShort(words[1]);
            short last = Short.parseShort(words[2]);
            ApiMessageType api = ApiMessageType.fromApiKey(Short.parseShort(words[0]));
            for (boolean isRequest : new boolean[] {true, false}) {
                for (short version = first; version <= last; version++) {
                    for (int i = 0; i < count; i++) {
                        one(output, api, isRequest, version, first, last);
                    }
                }
            }
        }
        output.flush();
    }

    private static void one(PrintStream output, ApiMessageType api, boolean isRequest, short version, short first, short last)
            throws Exception {
        Schema schema = (isRequest ? api.requestSchemas() : api.responseSchemas())[version];
        // Made by the schema, which knows nothing of the message's class, and then read by the class.
        Struct struct = (Struct) value(schema, false);
        ByteBuffer raw = ByteBuffer.allocate(schema.sizeOf(struct));
        schema.write(raw, struct);
        raw.flip();
        ApiMessage message = isRequest ? api.newRequest() : api.newResponse();
        message.read(new ByteBufferAccessor(raw), version);
        output.print(api.apiKey() + " " + (isRequest ? "request" : "response") + " " + version);
        output.print(" " + written(message, version));
        output.print(" " + json(message, version));
        for (short other = first; other <= last; other++) {
            output.print(" " + other + "=" + written(message, other));
        }
        output.println();
    }

    private static String written(ApiMessage message, short version) {
        try {
            ByteBuffer bytes = MessageUtil.toByteBufferAccessor(message, version).buffer();
            byte[] copy = new byte[bytes.remaining()];
            bytes.get(copy);
            return "x" + HexFormat.of().formatHex(copy);
        } catch (UnsupportedVersionException | NullPointerException refused) {
            // The generated classes refuse null, where a version has none, by NullPointerException.
            return "-";
        }
    }

    private static String json(ApiMessage message, short version) throws Exception {
        Class<?> converter = Class.forName(message.getClass().getName() + "JsonConverter");
        try {
            Object node = converter.getMethod("write", message.getClass(), short.class, boolean.class)
                .invoke(null, message, version, false);
            // One word: the only spaces and control characters are in strings, which this escapes.
            return ((JsonNode) node).toString().replace(" ", "\\u0020");
        } catch (InvocationTargetException failed) {
            throw new IllegalStateException(message + " as json, version " + version, failed.getCause());
        }
    }

    private static Object value(Type type, boolean mayBeNull) {
        if (mayBeNull && random.nextInt(4) == 0) {
            return null;
        }
        if (type instanceof NullableSchema nullable) {
            return random.nextInt(3) == 0 ? null : struct(nullable);
        }
        if (type instanceof Schema schema) {
            return struct(schema);
        }
        if (type instanceof ArrayOf array) {
            return list(array.arrayElementType().get(), array.isNullable());
        }
        if (type instanceof CompactArrayOf array) {
            return list(array.arrayElementType().get(), array.isNullable());
        }
        if (type instanceof TaggedFields tagged) {
            NavigableMap<Integer, Object> values = new TreeMap<>();
            for (Map.Entry<Integer, Field> field : tagged.fields().entrySet()) {
                if (random.nextInt(3) > 0) {
                    values.put(field.getKey(), value(field.getValue().type, false));
                }
            }
            return values;
        }
        return scalar(type.toString());
    }

    private static Struct struct(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type, false));
        }
        return struct;
    }

    private static Object list(Type element, boolean mayBeNull) {
        if (mayBeNull && random.nextInt(4) == 0) {
            return null;
        }
        List<Object> values = new ArrayList<>();
        // Some lists are long enough for their count to take two bytes as a varint.
        int length = random.nextInt(60) == 0 && !(element instanceof Schema) ? 127 + random.nextInt(3) : random.nextInt(4);
        for (int i = 0; i < length; i++) {
            values.add(value(element, false));
        }
        return values.toArray();
    }

    private static Object scalar(String type) {
        return switch (type) {
            case "BOOLEAN" -> random.nextBoolean();
            case "INT8" -> (byte) integer(Byte.MIN_VALUE, Byte.MAX_VALUE);
            case "INT16" -> (short) integer(Short.MIN_VALUE, Short.MAX_VALUE);
            case "INT32" -> (int) integer(Integer.MIN_VALUE, Integer.MAX_VALUE);
            case "INT64" -> integer(Long.MIN_VALUE, Long.MAX_VALUE);
            case "UUID" -> random.nextInt(4) == 0 ? Uuid.ZERO_UUID : new Uuid(random.nextLong(), random.nextLong());
            case "STRING", "COMPACT_STRING" -> string();
            case "NULLABLE_STRING", "COMPACT_NULLABLE_STRING" -> random.nextInt(3) == 0 ? null : string();
            case "BYTES", "COMPACT_BYTES" -> ByteBuffer.wrap(bytes());
            case "NULLABLE_BYTES", "COMPACT_NULLABLE_BYTES" -> random.nextInt(3) == 0 ? null : ByteBuffer.wrap(bytes());
            case "RECORDS", "COMPACT_RECORDS" -> MemoryRecords.readableRecords(ByteBuffer.wrap(bytes()));
            case "NULLABLE_RECORDS", "COMPACT_NULLABLE_RECORDS" ->
                random.nextInt(3) == 0 ? null : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes()));
            default -> throw new IllegalStateException("no values are made for the type " + type);
        };
    }

    private static long integer(long least, long most) {
        return switch (random.nextInt(6)) {
            case 0 -> 0;
            case 1 -> -1;
            case 2 -> least;
            case 3 -> most;
            default -> random.nextLong();
        };
    }

    private static String string() {
        int length = random.nextInt(60) == 0 ? 126 + random.nextInt(4) : random.nextInt(9);
        StringBuilder string = new StringBuilder();
        for (int i = 0; i < length; i++) {
            string.appendCodePoint("aZ0._- \"\\é漢".charAt(random.nextInt(11)));
        }
        return string.toString();
    }

    private static byte[] bytes() {
        byte[] bytes = new byte[random.nextInt(60) == 0 ? 126 + random.nextInt(4) : random.nextInt(12)];
        random.nextBytes(bytes);
        return bytes;
    }
}
