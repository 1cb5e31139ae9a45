// Writes the golden batches beside this file with Apache Kafka's own client library.
//
// Run: java -cp 'LIBS/*' MakeGolden.java DIRECTORY    (LIBS: kafka-clients 4.3.1 and what it depends on)

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

public class MakeGolden {
    static final long FIRST_TIME_MS = 1_356_998_400_000L;
    static final int RECORDS = 20;

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static byte[] key(int index) {
        return index % 5 == 4 ? null : bytes("key-" + index);
    }

    static byte[] value(int index) {
        if (index % 7 == 6) return null;
        if (index == 10) return bytes("longhaul ".repeat(12_000));
        return bytes("value-" + index);
    }

    static Header[] headers(int index) {
        Header[] headers = new Header[index % 3];
        for (int place = 0; place < headers.length; place++)
            headers[place] = new RecordHeader("header-" + place, place == 1 ? null : bytes("of-" + index));
        return headers;
    }

    static long time(int index) {
        // One record lies before the first: deltas may be negative.
        return index == 3 ? FIRST_TIME_MS - 1 : FIRST_TIME_MS + index * 3_600_000L;
    }

    static MemoryRecords records(byte magic, Compression compression, TimestampType type, long producerId, boolean transactional) {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
        long appendTime = type == TimestampType.LOG_APPEND_TIME ? FIRST_TIME_MS + 77 : RecordBatch.NO_TIMESTAMP;
        short epoch = producerId < 0 ? (short) -1 : (short) 3;
        int sequence = producerId < 0 ? -1 : 2_147_483_640;
        int leaderEpoch = magic < 2 ? -1 : 5;
        try (MemoryRecordsBuilder builder = new MemoryRecordsBuilder(buffer, magic, compression, type, 1000L, appendTime,
                producerId, epoch, sequence, transactional, false, leaderEpoch, buffer.capacity())) {
            for (int index = 0; index < RECORDS; index++) {
                long time = magic == 0 ? RecordBatch.NO_TIMESTAMP : time(index);
                Header[] headers = magic < 2 ? new Header[0] : headers(index);
                builder.appendWithOffset(1000L + index, time, key(index), value(index), headers);
            }
            return builder.build();
        }
    }

    static void write(Path directory, String name, MemoryRecords records) throws Exception {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        Files.write(directory.resolve(name + ".bin"), bytes);
    }

    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[0]);
        CompressionType[] codecs = {CompressionType.GZIP, CompressionType.SNAPPY, CompressionType.LZ4, CompressionType.ZSTD};
        for (CompressionType codec : codecs) {
            Compression compression = Compression.of(codec).build();
            write(directory, "v2-" + codec.name, records((byte) 2, compression, TimestampType.CREATE_TIME, -1, false));
            if (codec == CompressionType.ZSTD) continue;
            write(directory, "v1-" + codec.name, records((byte) 1, compression, TimestampType.CREATE_TIME, -1, false));
            if (codec == CompressionType.LZ4) continue;
            write(directory, "v0-" + codec.name, records((byte) 0, compression, TimestampType.NO_TIMESTAMP_TYPE, -1, false));
        }
        Compression zstd = Compression.of(CompressionType.ZSTD).build();
        write(directory, "v2-append-time", records((byte) 2, zstd, TimestampType.LOG_APPEND_TIME, -1, false));
        write(directory, "v2-transactional", records((byte) 2, zstd, TimestampType.CREATE_TIME, 4711, true));
        Compression gzip = Compression.of(CompressionType.GZIP).build();
        write(directory, "v1-append-time", records((byte) 1, gzip, TimestampType.LOG_APPEND_TIME, -1, false));
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.COMMIT, ControlRecordType.ABORT}) {
            write(directory, "v2-" + type.name().toLowerCase(), MemoryRecords.withEndTransactionMarker(
                1234L, FIRST_TIME_MS, 5, 4711L, (short) 3, new EndTransactionMarker(type, 9)));
        }
        // Without the one long value, so that the plain ones stay small.
        for (byte magic = 0; magic <= 2; magic++) write(directory, "v" + magic + "-none", plain(magic));
    }

    static MemoryRecords plain(byte magic) {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 16);
        TimestampType type = magic == 0 ? TimestampType.NO_TIMESTAMP_TYPE : TimestampType.CREATE_TIME;
        try (MemoryRecordsBuilder builder = new MemoryRecordsBuilder(buffer, magic, Compression.NONE, type, 1000L,
                RecordBatch.NO_TIMESTAMP, -1, (short) -1, -1, false, false, magic < 2 ? -1 : 5, buffer.capacity())) {
            for (int index = 0; index < 10; index++) {
                long time = magic == 0 ? RecordBatch.NO_TIMESTAMP : time(index);
                Header[] headers = magic < 2 ? new Header[0] : headers(index);
                builder.appendWithOffset(1000L + index, time, key(index), value(index), headers);
            }
            return builder.build();
        }
    }
}
