# Turns a list of names into a small page.
echo '<ul>'
while read -r name; do
  echo "  <li>Hello, $name!</li>"
done < "$1"
echo '</ul>'
