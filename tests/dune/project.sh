#!/bin/sh
# project.sh DIR [plain] -- make a small project for Dune, with a lexer, a parser, preprocessed modules and programs
# that are made and run. It needs Debian's ocaml-dune, menhir, libmenhir-ocaml-dev, libbase-ocaml-dev,
# libppx-sexp-conv-ocaml-dev and libppx-compare-ocaml-dev. A plain one has no preprocessor and needs none of the
# libraries: another Dune than Debian's cannot read those.
set -e
plain=${2:-}
mkdir -p "$1/calc" "$1/shapes" "$1/bin" "$1/test"
cd "$1"
cat > dune-project <<'P'
(lang dune 2.9)
(using menhir 2.1)
P
cat > calc/dune <<'P'
(ocamllex lexer)
(menhir (modules parser))
(library (name calc))
P
cat > calc/ast.ml <<'P'
type t = Num of int | Add of t * t | Mul of t * t
let rec eval = function Num n -> n | Add (a, b) -> eval a + eval b | Mul (a, b) -> eval a * eval b
P
cat > calc/lexer.mll <<'P'
{ open Parser }
rule token = parse
  | [' ' '\n'] { token lexbuf } | ['0'-'9']+ as n { INT (int_of_string n) }
  | '+' { PLUS } | '*' { TIMES } | '(' { L } | ')' { R } | eof { EOF }
P
cat > calc/parser.mly <<'P'
%token <int> INT
%token PLUS TIMES L R EOF
%left PLUS
%left TIMES
%start <Ast.t> main
%%
main: e = expr EOF { e }
expr: n = INT { Ast.Num n } | a = expr PLUS b = expr { Ast.Add (a, b) }
 | a = expr TIMES b = expr { Ast.Mul (a, b) } | L e = expr R { e }
P
cat > calc/run.ml <<'P'
let eval s = Ast.eval (Parser.main Lexer.token (Lexing.from_string s))
P
if [ "$plain" ]; then
	echo '(library (name shapes))' > shapes/dune
	open='' deriving='' show='Printf.sprintf "((id %d) (name %s) (tags (%s)))" t.id t.name (String.concat " " t.tags)'
else
	echo '(library (name shapes) (libraries base) (preprocess (pps ppx_sexp_conv ppx_compare)))' > shapes/dune
	open='open Base' deriving='[@@deriving sexp, compare]' show='Sexp.to_string_hum (sexp_of_t t)'
fi
i=0
while [ $i -lt 20 ]; do
	cat > shapes/m$i.ml <<-P
		$open
		type t = { id : int; name : string; tags : string list } $deriving
		let make id = { id; name = "m$i"; tags = [ "a"; "b" ] }
		$([ $i = 0 ] || echo "let prev = M$((i - 1)).make")
		let show t = $show
	P
	i=$((i + 1))
done
cat > bin/dune <<'P'
(executable (name main) (libraries calc shapes))
(rule (targets tool.sh) (action (progn (with-stdout-to tool.sh (echo "#!/bin/sh\necho tool\n")) (run chmod +x tool.sh))))
(rule (with-stdout-to banner.txt (run ./tool.sh)))
P
cat > bin/main.ml <<'P'
let () = Printf.printf "%d %s\n" (Calc.Run.eval "1+2*(3+4)") (Shapes.M19.show (Shapes.M19.make 7))
P
cat > test/dune <<'P'
(rule (with-stdout-to out.txt (run ../bin/main.exe)))
(rule (alias runtest) (action (diff expected.txt out.txt)))
P
echo '15 ((id 7) (name m19) (tags (a b)))' > test/expected.txt
