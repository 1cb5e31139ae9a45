//! What `Debug` prints of a message, as a tree: the names and values of its fields without a line of code for it in
//! the product. Bytes become base64, as Kafka's JSON converters show them.

use serde_json::{Map, Value};

/// Parses what `{:?}` printed. Panics on what no message prints.
pub(crate) fn parse(text: &str) -> Value {
    let mut parser = Parser { rest: text };
    let tree = parser.value();
    assert!(parser.rest.is_empty(), "after the message: {}", parser.rest);
    tree
}

/// Bytes that a base64 text stands for.
pub(crate) fn base64_length(text: &str) -> u64 {
    (text.len() / 4 * 3 - text.bytes().rev().take_while(|&byte| byte == b'=').count()) as u64
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) {
        assert!(self.eat(token), "{token:?} is missing before {}", self.rest);
    }

    fn take_while(&mut self, matches: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|letter| !matches(letter)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn value(&mut self) -> Value {
        if self.eat("[") {
            return self.list();
        }
        if self.eat("b\"") {
            return Value::from(base64(&self.byte_string()));
        }
        if self.eat("\"") {
            return Value::from(self.string());
        }
        let word = self.take_while(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
        if let Ok(number) = word.parse::<i64>() {
            return Value::from(number);
        }
        if self.eat(" { ") {
            return self.fields();
        }
        if word == "TopicId" {
            self.expect("(");
            let id = self.take_while(|letter| letter != ')');
            self.expect(")");
            return Value::from(id);
        }
        if self.eat("(") {
            let inner = self.value();
            self.expect(")");
            return inner;
        }
        match word {
            "None" => Value::Null,
            "true" => Value::from(true),
            "false" => Value::from(false),
            _ => {
                let code = wire::ErrorCode::ALL.iter().find(|code| code.name() == Some(word));
                Value::from(code.unwrap_or_else(|| panic!("the word {word:?} before {}", self.rest)).0)
            }
        }
    }

    fn list(&mut self) -> Value {
        let mut elements = Vec::new();
        while !self.eat("]") {
            elements.push(self.value());
            self.eat(", ");
        }
        Value::from(elements)
    }

    fn fields(&mut self) -> Value {
        let mut fields = Map::new();
        while !self.eat(" }") {
            let name = self.take_while(|letter| letter != ':');
            self.expect(": ");
            fields.insert(name.to_owned(), self.value());
            self.eat(", ");
        }
        Value::from(fields)
    }

    fn character(&mut self) -> char {
        let mut characters = self.rest.chars();
        let character = characters.next().expect("a string ends");
        self.rest = characters.as_str();
        character
    }

    fn string(&mut self) -> String {
        let mut string = String::new();
        while !self.eat("\"") {
            match self.character() {
                '\\' => match self.character() {
                    plain @ ('"' | '\\' | '\'') => string.push(plain),
                    other => panic!("a string with the escape {other:?}"),
                },
                plain => string.push(plain),
            }
        }
        string
    }

    fn byte_string(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.eat("\"") {
            let byte = match self.character() {
                '\\' => match self.character() {
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    '0' => 0,
                    'x' => {
                        let (digits, rest) = self.rest.split_at(2);
                        self.rest = rest;
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    plain => plain as u8,
                },
                plain => plain as u8,
            };
            bytes.push(byte);
        }
        bytes
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number =
            group.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            match place <= group.len() {
                true => text.push(ALPHABET[(number >> (18 - 6 * place) & 0x3f) as usize] as char),
                false => text.push('='),
            }
        }
    }
    text
}
